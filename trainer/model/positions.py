"""Rotary positions: the table of angles and its application to queries and keys; called by decoder and attention.

Shapes: B batch, T tokens, N heads (queries and keys together), K head width, R half of the rotated width.
The layout is that of GPT-NeoX and Hugging Face: feature i is paired with feature i + R.
"""

from __future__ import annotations

import torch
from torch import Tensor

Rope = tuple[Tensor, Tensor]
"""Cosines and sines, each [T, 1, R] in fp32, or [B, T, 1, R] where positions differ between rows."""


class RopeTable:
    """Cosines and sines for every position, computed on the first use on a device.

    Not a module with buffers on purpose: buffers would be garbage after `to_empty`, would be moved and cast with the
    model, and angles in bf16 are wrong from position 256 on.
    """

    def __init__(self, positions: int, rotated_width: int, theta: float) -> None:
        self.positions = positions
        self.rotated_width = rotated_width
        self.theta = theta
        self._tables: dict[torch.device, Rope] = {}

    def at(self, positions: slice | Tensor, device: torch.device) -> Rope:
        """The table of these positions on `device`; positions [B, T] give [B, T, 1, R]."""
        if device not in self._tables:
            # A table made by a first call in inference mode has to serve training later.
            with torch.inference_mode(False), torch.no_grad():
                self._tables[device] = self._compute(device)
        cos_T1R, sin_T1R = self._tables[device]
        return cos_T1R[positions], sin_T1R[positions]

    def _compute(self, device: torch.device) -> Rope:
        """angle[t, i] = t * theta^(-2i / rotated width) (Su et al. 2021, section 3.2.2)."""
        exponents_R = torch.arange(0, self.rotated_width, 2, dtype=torch.float32, device=device) / self.rotated_width
        frequencies_R = 1.0 / self.theta**exponents_R
        positions_T = torch.arange(self.positions, dtype=torch.float32, device=device)
        angles_TR = torch.outer(positions_T, frequencies_R)
        return angles_TR.cos().unsqueeze(1), angles_TR.sin().unsqueeze(1)


def rotate(heads_BTNK: Tensor, rope: Rope) -> Tensor:
    """Rotate the first 2R features of each head by its position's angles, in fp32; the rest passes unchanged.

    Raises TypeError when the table was cast on its way: FSDP2's mixed precision casts the inputs of each wrapped block
    unless its policy says `cast_forward_inputs=False`.
    """
    cos_TR, sin_TR = rope
    if cos_TR.dtype != torch.float32:
        raise TypeError(f"the rotary table arrived as {cos_TR.dtype}; wrap blocks with cast_forward_inputs=False")
    half = cos_TR.shape[-1]
    first, second, rest = heads_BTNK.split((half, half, heads_BTNK.shape[-1] - 2 * half), dim=-1)
    turned = (first * cos_TR - second * sin_TR, second * cos_TR + first * sin_TR)
    # fp32 tables lift bf16 heads to fp32 for the products; the result goes back to the heads' type.
    return torch.cat([part.to(heads_BTNK.dtype) for part in turned] + [rest], dim=-1)
