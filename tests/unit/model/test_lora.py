"""Low-rank adapters: what they compute, what is trained, how they merge, what does not fit."""

from __future__ import annotations

import pytest
import torch

from trainer.config_file import load_run_config
from trainer.errors import UserError
from trainer.model.additions import PlainTensors, is_addition
from trainer.model.config import GPT2Config, LlamaConfig, LoraConfig, ModelSettings, NeoXConfig, lora_shapes
from trainer.model.decoder import Decoder, Recompute
from trainer.model.init import initialise
from trainer.model.lora import add_adapters, is_adapter
from trainer.model.size import count_adapter_parameters
from trainer.train.config import AdamWConfig
from trainer.train.optimizer import build_optimizers

SMALL = {"vocab_size": 61, "context": 16, "layers": 2, "width": 16, "heads": 2}
CONFIGS = [GPT2Config(**SMALL), LlamaConfig(**SMALL, ffn_width=24), NeoXConfig(**SMALL, rope_fraction=0.5)]
TOKENS_BT = torch.arange(24).reshape(2, 12) * 2


def adapted(config: ModelSettings, lora: LoraConfig, *, seed: int = 1, recompute: Recompute = "none") -> Decoder:
    with torch.device("meta"):
        model = Decoder(config, recompute=recompute)
        add_adapters(model, lora)
    model.to_empty(device="cpu")
    initialise(model, seed)
    return model


def targets_of(config: ModelSettings) -> tuple[str, ...]:
    gate = ("mlp.gate",) if config.mlp == "swiglu" else ()
    return ("attention.qkv", "attention.out", "mlp.up", "mlp.down", *gate)


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.family)
def test_the_merged_model_has_the_logits_of_the_adapted_one(config: ModelSettings) -> None:
    lora = LoraConfig(rank=3, alpha=7.0, targets=targets_of(config))
    model = adapted(config, lora)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if is_adapter(name):
                parameter.normal_(0, 0.3)
    plain = Decoder(config)
    plain.load_state_dict(dict(PlainTensors(model.state_dict(), lora)))
    with torch.no_grad():
        torch.testing.assert_close(plain(TOKENS_BT), model(TOKENS_BT), rtol=0, atol=1e-5)
        untouched = Decoder(config)
        initialise(untouched, 1)
        assert (untouched(TOKENS_BT) - model(TOKENS_BT)).abs().max() > 0.01


def test_fresh_adapters_change_nothing() -> None:
    model, plain = adapted(CONFIGS[0], LoraConfig()), Decoder(CONFIGS[0])
    initialise(plain, 1)
    with torch.no_grad():
        assert torch.equal(model(TOKENS_BT), plain(TOKENS_BT))


def test_only_adapters_get_gradients_and_optimizer_state() -> None:
    lora = LoraConfig(rank=2, targets=("attention.qkv", "mlp.down"))
    model = adapted(CONFIGS[0], lora)
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    optimizers = build_optimizers(model, AdamWConfig(lr=1e-2))
    for _ in range(2):
        model(TOKENS_BT, TOKENS_BT).backward()
        optimizers.step()
    changed = {name for name, parameter in model.named_parameters() if not torch.equal(parameter, before[name])}
    assert changed == {name for name in before if is_adapter(name)}
    assert all(parameter.grad is None for name, parameter in model.named_parameters() if not is_adapter(name))
    state = [value for optimizer in optimizers.optimizers for value in optimizer.state.values()]
    moments = sum(tensor.numel() for entry in state for name, tensor in entry.items() if name.startswith("exp_avg"))
    parameters = 2 * 2 * ((16 + 48) + (64 + 16))
    assert moments == 2 * parameters
    assert count_adapter_parameters(CONFIGS[0], lora) == parameters


def test_dropout_is_of_adapters_alone_and_in_training_alone() -> None:
    model = adapted(CONFIGS[0], LoraConfig(rank=2, dropout=0.5))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("lora_up"):
                parameter.normal_()
        assert not torch.equal(model(TOKENS_BT), model(TOKENS_BT))
        model.eval()
        assert torch.equal(model(TOKENS_BT), model(TOKENS_BT))


@pytest.mark.parametrize("recompute", ["selective", "full"])
def test_a_recomputed_block_drops_again_what_it_dropped(recompute: Recompute) -> None:
    lora = LoraConfig(rank=2, dropout=0.5, targets=targets_of(CONFIGS[0]))
    gradients = []
    for kind in ("none", recompute):
        model = adapted(CONFIGS[0], lora, recompute=kind)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if name.endswith("lora_up"):
                    parameter.fill_(0.1)
        torch.manual_seed(0)
        model(TOKENS_BT, TOKENS_BT).backward()
        gradients.append({name: p.grad for name, p in model.named_parameters() if p.grad is not None})
    torch.testing.assert_close(gradients[1], gradients[0])


def test_shapes_are_those_of_the_modules() -> None:
    for config in CONFIGS:
        block = Decoder(config).blocks[0]
        for target, shape in lora_shapes(config, LoraConfig(targets=targets_of(config))).items():
            layer = block.get_submodule(target)
            assert isinstance(layer, torch.nn.Linear)
            assert (layer.in_features, layer.out_features) == shape


def test_projections_are_no_part_of_the_plain_model() -> None:
    model = Decoder(CONFIGS[0])
    model.add_projections(2, 24)
    names = {name for name, _ in model.named_parameters() if is_addition(name)}
    assert names == {"projections.0.weight", "projections.1.weight"}
    assert PlainTensors(model.state_dict(), None).keys() == Decoder(CONFIGS[0]).state_dict().keys()


ADAPTING = ["task=finetune", "initial_weights=runs/base"]


@pytest.mark.parametrize(
    ("overrides", "complaint"),
    [
        ([*ADAPTING, "lora.targets=[mlp.gate]"], r"lora\.targets: this model has no mlp\.gate; it has attention\.qkv"),
        ([*ADAPTING, "lora.targets=[attention.query]"], r"lora\.targets\.0: .*attention\.qkv.*mlp\.down"),
        ([*ADAPTING, "lora.targets=[mlp.up, mlp.up]"], r"lora\.targets: names a matrix twice"),
        ([*ADAPTING, "lora.rank=129"], r"lora\.rank: 129 is more than the smaller side of attention\.qkv, 128 x 384"),
        ([*ADAPTING, "lora.rank=8", "optimizer.type=muon"], r"lora: .*adamw; found muon"),
        ([*ADAPTING, "lora.rank=8", "precision=fp8"], r"lora: .*precision: bf16"),
        (["lora.rank=8"], r"lora: task pretrain trains all weights"),
        (["task=distill", "distill.teacher=runs/base", "lora.rank=8"], r"lora: adapters need weights to adapt"),
    ],
)
def test_what_does_not_fit_is_said(overrides: list[str], complaint: str) -> None:
    with pytest.raises(UserError, match=complaint):
        load_run_config("tiny-gpt2", overrides)
