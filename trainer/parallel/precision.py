"""Arithmetic of forward and backward passes: dtypes, the loss scaler of fp16 and fp8 matrix products.

Called by the worker (checks, fp8) and the train step (scaler). Weights, moments and reductions are always fp32.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from trainer.errors import UserError
from trainer.extras import needs
from trainer.model.decoder import Decoder
from trainer.parallel.config import Precision

COMPUTE_DTYPE: dict[Precision, torch.dtype] = {
    "fp32": torch.float32,
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
    "fp8": torch.bfloat16,  # what is not a matrix product inside a block
}

# fp8 tensor cores came with Ada (8.9) and Hopper (9.0).
_FP8_CAPABILITY = (8, 9)


@dataclass
class LossScaler:
    """Dynamic loss scale for fp16 (Micikevicius et al., arXiv:1710.03740, section 3.2).

    The scale multiplies the loss; a step whose gradient norm is not finite is skipped and halves it; after
    `growth_steps` good ones it doubles. The norm is global, so every rank decides alike without another collective.
    """

    scale: float = 65536.0
    growth_steps: int = 2000
    good_steps: int = 0

    def update(self, *, finite: bool) -> None:
        """Take note of one step."""
        if not finite:
            self.scale, self.good_steps = max(self.scale / 2, 1.0), 0
            return
        self.good_steps += 1
        if self.good_steps == self.growth_steps:
            self.scale, self.good_steps = self.scale * 2, 0


def check_precision(precision: Precision, device: torch.device) -> None:
    """Raise UserError where the hardware or an extra for `precision` is missing."""
    if precision != "fp8":
        return
    if device.type != "cuda" or torch.cuda.get_device_capability(device) < _FP8_CAPABILITY:
        name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
        raise UserError(
            f"precision: fp8 on {name}",
            expected="an NVIDIA GPU of compute capability 8.9 or newer",
            fix="set precision: bf16",
        )
    with needs("fp8", "precision: fp8"):
        import torchao.float8  # noqa: F401


def use_fp8(model: Decoder) -> None:
    """Replace the linear layers inside blocks by torchao's fp8 ones; embedding and head stay in bf16."""
    from torchao.float8 import convert_to_float8_training

    for block in model.blocks:
        convert_to_float8_training(block, module_filter_fn=_dimensions_fit_fp8)


def _dimensions_fit_fp8(module: torch.nn.Module, _name: str) -> bool:
    """fp8 kernels want both dimensions in multiples of 16."""
    return isinstance(module, torch.nn.Linear) and module.in_features % 16 == 0 and module.out_features % 16 == 0
