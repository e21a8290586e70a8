"""Normalisation layers by name; called by the decoder.

Both compute in fp32 inside and return the input's type, so they hold up under bf16.
"""

from __future__ import annotations

from torch import nn

from trainer.model.config import ModelSettings


def build_norm(config: ModelSettings) -> nn.Module:
    """The normalisation that `config.norm` names, over the last dimension of the residual stream."""
    if config.norm == "rmsnorm":
        return nn.RMSNorm(config.width, eps=config.norm_eps)
    return nn.LayerNorm(config.width, eps=config.norm_eps, bias=config.bias)
