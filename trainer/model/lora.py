"""Low-rank adapters inside the decoder's linear layers (Hu et al., arXiv:2106.09685), and their way out of it.

The trainer calls `add_adapters` on a model on the meta device, before it is compiled, sharded and filled: an adapter's
tensors are parameters of the layer like any other, so sharding, checkpoints and optimizers need to know nothing of
them. Whoever loads a checkpoint for use takes its tensors by `merged`.

Shapes: D inputs of a layer, F outputs, R rank.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trainer.model.config import LoraConfig
from trainer.model.decoder import Block, Decoder

DOWN, UP = "lora_down", "lora_up"
"""Names of A [R, D] and B [F, R] beside a layer's `weight`."""


class LoraLinear(nn.Linear):
    """W x + bias + alpha / rank * B A dropout(x), with W and bias frozen."""

    def __init__(self, layer: nn.Linear, config: LoraConfig) -> None:
        super().__init__(layer.in_features, layer.out_features, bias=layer.bias is not None)
        self.scale = config.alpha / config.rank
        self.dropout = config.dropout
        self.lora_down = nn.Parameter(torch.empty(config.rank, layer.in_features))
        self.lora_up = nn.Parameter(torch.empty(layer.out_features, config.rank))

    def forward(self, x_D: Tensor) -> Tensor:
        dropped_D = F.dropout(x_D, self.dropout, self.training) if self.dropout > 0 else x_D
        adapted_F = F.linear(F.linear(dropped_D, self.lora_down), self.lora_up)
        return super().forward(x_D) + self.scale * adapted_F


def add_adapters(model: Decoder, config: LoraConfig) -> None:
    """Replace the targets in every block of `model` by layers with an adapter and freeze everything else, in place."""
    model.requires_grad_(requires_grad=False)
    for block in model.blocks:
        assert isinstance(block, Block)
        block.draws_random |= config.dropout > 0
        for target in config.targets:
            parent_name, _, name = target.rpartition(".")
            parent = block.get_submodule(parent_name)
            plain = parent.get_submodule(name)
            assert isinstance(plain, nn.Linear)
            layer = LoraLinear(plain, config)
            layer.requires_grad_(requires_grad=False)
            layer.lora_down.requires_grad_()
            layer.lora_up.requires_grad_()
            setattr(parent, name, layer)


def is_adapter(name: str) -> bool:
    """Whether a parameter of this name is one of an adapter's."""
    return name.endswith((f".{DOWN}", f".{UP}"))


def merged(tensors: Mapping[str, Tensor], name: str, config: LoraConfig) -> Tensor:
    """The parameter of that name as a plain layer has it that computes the same: W + alpha / rank * B A, in fp32."""
    layer, _, last = name.rpartition(".")
    if last != "weight" or f"{layer}.{DOWN}" not in tensors:
        return tensors[name]
    update = tensors[f"{layer}.{UP}"].float() @ tensors[f"{layer}.{DOWN}"].float()
    weight = tensors[name]
    return (weight.float() + config.alpha / config.rank * update).to(weight.dtype)
