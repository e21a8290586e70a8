"""Which parameters an optimizer decays, and the global gradient norm."""

from __future__ import annotations

import math

import torch

from trainer.model.config import GPT2Config
from trainer.model.decoder import Decoder
from trainer.train.config import AdamWConfig, MuonConfig
from trainer.train.optimizer import build_optimizers, global_grad_norm


def small_decoder() -> Decoder:
    torch.manual_seed(0)
    return Decoder(GPT2Config(vocab_size=64, context=8, layers=2, width=16, heads=2))


def test_only_matrices_decay() -> None:
    model = small_decoder()
    (adamw,) = build_optimizers(model, AdamWConfig(weight_decay=0.3)).optimizers
    decays = {id(p): group["weight_decay"] for group in adamw.param_groups for p in group["params"]}
    assert {decays[id(p)] for p in model.parameters() if p.ndim == 2} == {0.3}
    assert {decays[id(p)] for p in model.parameters() if p.ndim == 1} == {0.0}
    assert len(decays) == len(list(model.parameters()))


def test_muon_takes_the_matrices_of_blocks_and_adamw_the_rest() -> None:
    model = small_decoder()
    adamw, muon = build_optimizers(model, MuonConfig()).optimizers
    names = {id(p): name for name, p in model.named_parameters()}
    of_muon = {names[id(p)] for group in muon.param_groups for p in group["params"]}
    of_adamw = {names[id(p)] for group in adamw.param_groups for p in group["params"]}
    assert of_muon == {name for name, p in model.named_parameters() if name.startswith("blocks.") and p.ndim == 2}
    assert of_muon | of_adamw == set(names.values())
    assert not of_muon & of_adamw


def test_learning_rate_is_a_share_of_the_peak_everywhere() -> None:
    optimizers = build_optimizers(small_decoder(), MuonConfig(lr=0.5))
    assert optimizers.set_lr_factor(0.1) == 0.05
    rates = {group["lr"] for optimizer in optimizers.optimizers for group in optimizer.param_groups}
    assert rates == {0.05}


def test_norm_against_the_definition() -> None:
    parameters = [
        torch.nn.Parameter(torch.zeros(3, 4)),
        torch.nn.Parameter(torch.zeros(5)),
        torch.nn.Parameter(torch.zeros(2)),
    ]
    parameters[0].grad = torch.full((3, 4), 2.0)
    parameters[1].grad = torch.full((5,), 1.0)
    assert global_grad_norm(parameters).item() == math.sqrt(12 * 4 + 5)


def test_norm_of_a_large_matrix() -> None:
    parameter = torch.nn.Parameter(torch.zeros(4096, 1024))
    parameter.grad = torch.full_like(parameter, 0.1)
    expected = math.sqrt(4096 * 1024) * float(torch.tensor(0.1))
    assert abs(global_grad_norm([parameter]).item() - expected) < 1e-6 * expected


def test_norm_does_not_depend_on_how_rows_are_shared() -> None:
    whole = torch.nn.Parameter(torch.zeros(1000, 333))
    whole.grad = torch.randn(1000, 333, generator=torch.Generator().manual_seed(1))
    parts = []
    for rows in whole.grad.split((700, 299, 1)):
        parts.append(torch.nn.Parameter(torch.zeros_like(rows)))
        parts[-1].grad = rows
    assert abs(global_grad_norm([whole]).item() / global_grad_norm(parts).item() - 1) < 1e-14
