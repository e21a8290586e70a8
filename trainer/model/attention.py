"""Causal self-attention over PyTorch's scaled_dot_product_attention (SDPA); called by the decoder.

Shapes: B batch, T tokens, S tokens to look at (T, or with a cache all so far), D width, N query heads, M key/value
heads, K head width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from trainer.model.cache import LayerCache
from trainer.model.config import ModelSettings
from trainer.model.positions import Rope, rotate

AttentionBackend = Literal["cudnn", "flash", "efficient", "math"]
ATTENTION_BACKENDS: tuple[AttentionBackend, ...] = ("cudnn", "flash", "efficient", "math")
"""The default order of preference: cuDNN's kernel is the fastest on Hopper, the last one always works."""

_SDP_BACKENDS: dict[AttentionBackend, SDPBackend] = {
    "cudnn": SDPBackend.CUDNN_ATTENTION,
    "flash": SDPBackend.FLASH_ATTENTION,
    "efficient": SDPBackend.EFFICIENT_ATTENTION,
    "math": SDPBackend.MATH,
}


class Attention(nn.Module):
    """Multi-head or grouped-query attention with one fused projection: rows of queries, then keys, then values."""

    def __init__(self, config: ModelSettings, backends: Sequence[AttentionBackend]) -> None:
        super().__init__()
        self.heads = config.heads
        self.kv_heads = config.kv_heads
        self.head_width = config.head_width
        self.dropout = config.dropout
        self.backends = [_SDP_BACKENDS[name] for name in backends]
        rows = (config.heads + 2 * config.kv_heads) * config.head_width
        self.qkv = nn.Linear(config.width, rows, bias=config.bias)
        self.out = nn.Linear(config.width, config.width, bias=config.bias)

    def forward(
        self, x_BTD: Tensor, rope: Rope | None, mask_B1TS: Tensor | None = None, cache: LayerCache | None = None
    ) -> Tensor:
        """Each position's mix of those that `mask_B1TS` is true for; without one, of all up to its own.

        With a `cache` they go on from those in it, and are added to it.
        """
        batch, length, _ = x_BTD.shape
        qkv_BTNK = self.qkv(x_BTD).view(batch, length, -1, self.head_width)
        if rope is None:
            q_BTNK, k_BTMK, v_BTMK = qkv_BTNK.split((self.heads, self.kv_heads, self.kv_heads), dim=2)
        else:
            qk_BTNK, v_BTMK = qkv_BTNK.split((self.heads + self.kv_heads, self.kv_heads), dim=2)
            q_BTNK, k_BTMK = rotate(qk_BTNK, rope).split((self.heads, self.kv_heads), dim=2)
        k_BMSK, v_BMSK = k_BTMK.transpose(1, 2), v_BTMK.transpose(1, 2)
        causal = mask_B1TS is None
        if cache is not None:
            # SDPA aligns the first query with the first key; a single one comes after all that the cache has.
            causal = causal and length > 1
            k_BMSK, v_BMSK = cache.append(k_BMSK, v_BMSK)
        y_BNTK = self._attend(q_BTNK.transpose(1, 2), k_BMSK, v_BMSK, mask_B1TS, causal=causal)
        return self.out(y_BNTK.transpose(1, 2).flatten(2))  # type: ignore[no-any-return]  # untyped nn.Module.__call__

    def _attend(
        self, q_BNTK: Tensor, k_BMSK: Tensor, v_BMSK: Tensor, mask_B1TS: Tensor | None, *, causal: bool
    ) -> Tensor:
        if q_BNTK.device.type != "cuda":
            # The CPU has one kernel to choose; entering the context manager would cost more than a small layer.
            return self._sdpa(q_BNTK, k_BMSK, v_BMSK, mask_B1TS, causal=causal)
        with sdpa_kernel(self.backends, set_priority=True):
            return self._sdpa(q_BNTK, k_BMSK, v_BMSK, mask_B1TS, causal=causal)

    def _sdpa(
        self, q_BNTK: Tensor, k_BMSK: Tensor, v_BMSK: Tensor, mask_B1TS: Tensor | None, *, causal: bool
    ) -> Tensor:
        return F.scaled_dot_product_attention(
            q_BNTK,
            k_BMSK,
            v_BMSK,
            attn_mask=mask_B1TS,
            dropout_p=self.dropout if self.training else 0.0,
            is_causal=causal,
            enable_gqa=self.kv_heads != self.heads,
        )


def number_documents(tokens_BT: Tensor, end_id: int) -> Tensor:
    """Which document of its row each token is of, from 0; `end_id` ends a document and belongs to it."""
    ends_BT = (tokens_BT == end_id).to(torch.int32)
    return ends_BT.cumsum(1) - ends_BT


def document_mask(documents_BT: Tensor) -> Tensor:
    """[B, 1, T, T], true where the position of the row may look: at itself and at what its own document has before it.

    `documents_BT` numbers the documents of each row.
    """
    return (documents_BT[:, :, None] == documents_BT[:, None, :]).tril()[:, None]


def places_within(documents_BT: Tensor) -> Tensor:
    """Place of each token within its document, from 0; the numbers in a row of `documents_BT` never fall."""
    index_T = torch.arange(documents_BT.shape[1], device=documents_BT.device)
    is_first_BT = documents_BT.diff(dim=1, prepend=documents_BT[:, :1] - 1) != 0
    first_BT = torch.where(is_first_BT, index_T, 0).cummax(1).values
    return index_T - first_BT
