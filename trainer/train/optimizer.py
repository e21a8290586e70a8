"""Optimizers over a sharded model: AdamW, and Muon for the matrices inside blocks.

Called by the worker after the model was wrapped. The loop steps through `Optimizers`, whatever their number; their
hyperparameters always come from the config, never from a checkpoint.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from trainer.model.decoder import Decoder
from trainer.train.config import MuonConfig, OptimizerConfig


class Optimizers:
    """The optimizers of one run, stepped together."""

    def __init__(self, optimizers: list[torch.optim.Optimizer], peak_lr: float) -> None:
        self.optimizers = optimizers
        self._peak_lr = peak_lr

    def set_lr_factor(self, factor: float) -> float:
        """Set every learning rate to the peak times `factor`; returns it."""
        lr = self._peak_lr * factor
        for group in self._groups():
            group["lr"] = lr
        return lr

    def step(self) -> None:
        """One update from the gradients."""
        for optimizer in self.optimizers:
            optimizer.step()

    def zero_grad(self) -> None:
        """Free the gradients."""
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=True)

    def _groups(self) -> Iterable[dict[str, Any]]:
        return (group for optimizer in self.optimizers for group in optimizer.param_groups)


def build_optimizers(model: Decoder, config: OptimizerConfig) -> Optimizers:
    """Optimizers for all parameters of `model` that are not frozen; weight decay applies to matrices only."""
    trained = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    muon_names: set[str] = set()
    if isinstance(config, MuonConfig):
        muon_names = {name for name, p in trained if p.ndim == 2 and name.startswith("blocks.")}
    named = [(name, p) for name, p in trained if name not in muon_names]
    groups = [
        {"params": [p for _, p in named if p.ndim >= 2], "weight_decay": config.weight_decay},
        {"params": [p for _, p in named if p.ndim < 2], "weight_decay": 0.0},
    ]
    optimizers: list[torch.optim.Optimizer] = [
        torch.optim.AdamW(
            [group for group in groups if group["params"]],
            lr=config.lr,
            betas=config.betas,
            eps=config.eps,
            fused=True,
        )
    ]
    if isinstance(config, MuonConfig):
        matrices = [p for name, p in trained if name in muon_names]
        optimizers.append(
            torch.optim.Muon(
                matrices,
                lr=config.lr,
                weight_decay=config.weight_decay,
                momentum=config.momentum,
                adjust_lr_fn="match_rms_adamw",
            )
        )
    return Optimizers(optimizers, config.lr)


def global_grad_norm(parameters: Iterable[nn.Parameter]) -> Tensor:
    """Euclidean norm of all gradients over all ranks: a float64 scalar, equal on every rank.

    A row's norm is taken in fp32, the sum over rows in float64. All in fp32, a matrix of 26M values came out wrong by
    2.5e-3 on a CPU, differently at each world size, and clipping carried that into the weights. Ranks share a matrix by
    rows, so a row's norm does not depend on their number.
    """
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    local = [grad.to_local() if isinstance(grad, DTensor) else grad for grad in gradients]
    square = torch.stack([_norm(grad) for grad in local]).square().sum()
    if gradients and isinstance(gradients[0], DTensor):
        mesh, placements = gradients[0].device_mesh, gradients[0].placements
        for dimension, placement in enumerate(placements):
            # Replicas hold the same gradients: only shards add up.
            if placement.is_shard() and mesh.size(dimension) > 1:
                dist.all_reduce(square, group=mesh.get_group(dimension))
    return square.sqrt()


def _norm(grad: Tensor) -> Tensor:
    """Norm of one rank's part of a gradient, float64; converting a whole matrix would take ten times as long."""
    rows = torch.linalg.vector_norm(grad, dim=-1) if grad.ndim > 1 else grad
    norm: Tensor = torch.linalg.vector_norm(rows, dtype=torch.float64)
    return norm
