"""A plain GPT-2 and its training loop, the way tutorials write it: the yardstick of training_sides.py.

Plain modules, PyTorch's attention, cross-entropy over all logits at once, fused AdamW, clipping. No sharding, no
checkpoint, no shape it could not have been written for.

Shapes: B batch, T tokens, D width, H heads, K head width.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F


class PlainBlock(nn.Module):
    """Attention and MLP, pre-norm."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm_1, self.norm_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x_BTD: Tensor) -> Tensor:
        batch, length, width = x_BTD.shape
        q_BTD, k_BTD, v_BTD = self.qkv(self.norm_1(x_BTD)).split(width, dim=2)
        q_BHTK, k_BHTK, v_BHTK = (
            part.view(batch, length, self.heads, width // self.heads).transpose(1, 2) for part in (q_BTD, k_BTD, v_BTD)
        )
        y_BHTK = F.scaled_dot_product_attention(q_BHTK, k_BHTK, v_BHTK, is_causal=True)
        x_BTD = x_BTD + self.out(y_BHTK.transpose(1, 2).reshape(batch, length, width))
        y_BTD: Tensor = self.down(F.gelu(self.up(self.norm_2(x_BTD)), approximate="tanh"))
        return x_BTD + y_BTD


class PlainGPT(nn.Module):
    """Token and position embeddings, blocks, final norm, tied head."""

    def __init__(self, *, vocab_size: int, context: int, layers: int, width: int, heads: int) -> None:
        super().__init__()
        self.tokens, self.positions = nn.Embedding(vocab_size, width), nn.Embedding(context, width)
        self.blocks = nn.ModuleList(PlainBlock(width, heads) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, vocab_size, bias=False)
        self.head.weight = self.tokens.weight
        self.apply(_initialise)

    def forward(self, ids_BT: Tensor, targets_BT: Tensor) -> Tensor:
        positions_T = torch.arange(ids_BT.shape[1], device=ids_BT.device)
        x_BTD = self.tokens(ids_BT) + self.positions(positions_T)
        for block in self.blocks:
            x_BTD = block(x_BTD)
        logits_BTV = self.head(self.norm(x_BTD))
        return F.cross_entropy(logits_BTV.flatten(0, 1), targets_BT.flatten())


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Linear | nn.Embedding):
        nn.init.normal_(module.weight, std=0.02)
    if isinstance(module, nn.Linear) and module.bias is not None:
        nn.init.zeros_(module.bias)


def adamw(model: nn.Module, lr: float) -> torch.optim.AdamW:
    """Fused AdamW; decay on matrices only."""
    matrices = [parameter for parameter in model.parameters() if parameter.ndim >= 2]
    vectors = [parameter for parameter in model.parameters() if parameter.ndim < 2]
    groups = [{"params": matrices, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=lr, betas=(0.9, 0.95), fused=True)


class RandomWindows:
    """Batches of windows at random places of a memory-mapped .bin file."""

    def __init__(self, path: Path, *, sequences: int, length: int, seed: int = 1) -> None:
        self._tokens = np.memmap(path, dtype=np.uint16, mode="r")
        self._sequences, self._length = sequences, length
        self._random = np.random.default_rng(seed)

    def next(self) -> tuple[Tensor, Tensor]:
        """Inputs and targets, each [B, T]."""
        starts = self._random.integers(0, len(self._tokens) - self._length - 1, self._sequences)
        rows_BT = np.stack([self._tokens[start : start + self._length + 1] for start in starts]).astype(np.int64)
        tokens_BT = torch.from_numpy(rows_BT)
        return tokens_BT[:, :-1], tokens_BT[:, 1:]
