"""The MLP of a block, by name; called by the decoder.

Shapes: B batch, T tokens, D width, F hidden width of the MLP.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from trainer.model.config import ModelSettings


def build_mlp(config: ModelSettings) -> nn.Module:
    """The MLP that `config.mlp` names."""
    if config.mlp == "swiglu":
        return GatedMlp(config)
    return GeluMlp(config)


class GeluMlp(nn.Module):
    """down(gelu(up(x))), with GELU exact or in its tanh approximation (Hendrycks and Gimpel 2016)."""

    def __init__(self, config: ModelSettings) -> None:
        super().__init__()
        self.up = nn.Linear(config.width, config.ffn_width, bias=config.bias)
        self.down = nn.Linear(config.ffn_width, config.width, bias=config.bias)
        self.approximate = "tanh" if config.mlp == "gelu_tanh" else "none"

    def forward(self, x_BTD: Tensor) -> Tensor:
        hidden_BTF = F.gelu(self.up(x_BTD), approximate=self.approximate)
        return self.down(hidden_BTF)  # type: ignore[no-any-return]  # nn.Module.__call__ is untyped


class GatedMlp(nn.Module):
    """SwiGLU, down(silu(gate(x)) * up(x)) (Shazeer 2020)."""

    def __init__(self, config: ModelSettings) -> None:
        super().__init__()
        self.gate = nn.Linear(config.width, config.ffn_width, bias=config.bias)
        self.up = nn.Linear(config.width, config.ffn_width, bias=config.bias)
        self.down = nn.Linear(config.ffn_width, config.width, bias=config.bias)

    def forward(self, x_BTD: Tensor) -> Tensor:
        hidden_BTF = F.silu(self.gate(x_BTD)) * self.up(x_BTD)
        return self.down(hidden_BTF)  # type: ignore[no-any-return]  # nn.Module.__call__ is untyped
