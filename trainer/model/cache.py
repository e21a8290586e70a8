"""Keys and values of the tokens that a decoder has seen, so that the next token costs one position and not all.

Made by generation, filled by `Decoder.extend`. Buffers are allocated once, for the longest sequence there will be.
Sequences of different length end in the same column: a row's first columns are padding that none of its tokens sees.

Shapes: B batch, T new tokens, S columns (padding and tokens) so far, M key/value heads, K head width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from trainer.model.config import ModelSettings


@dataclass
class LayerCache:
    """Keys and values of one block; the buffers have room for more columns than are used."""

    keys: Tensor
    values: Tensor
    used: int = 0

    def append(self, k_BMTK: Tensor, v_BMTK: Tensor) -> tuple[Tensor, Tensor]:
        """Add T columns; returns the keys and values of all S columns."""
        length = k_BMTK.shape[2]
        self.keys.narrow(2, self.used, length).copy_(k_BMTK)
        self.values.narrow(2, self.used, length).copy_(v_BMTK)
        self.used += length
        return self.keys.narrow(2, 0, self.used), self.values.narrow(2, 0, self.used)


class KeyValueCache:
    """What is kept of a batch of sequences between two calls of `Decoder.extend`.

    `paddings` says how many columns of padding stand before each row's first token; `columns` is the room for padding
    and tokens together. With a `document_end_id`, as in the decoder, no token sees back beyond its own document.
    """

    def __init__(
        self,
        config: ModelSettings,
        paddings: Sequence[int],
        columns: int,
        *,
        dtype: torch.dtype,
        device: torch.device,
        document_end_id: int | None = None,
    ) -> None:
        shape = (len(paddings), config.kv_heads, columns, config.head_width)
        # Columns are written before they are read, so there is nothing to clear.
        self.layers = [
            LayerCache(torch.empty(shape, dtype=dtype, device=device), torch.empty(shape, dtype=dtype, device=device))
            for _ in range(config.layers)
        ]
        self.columns = columns
        self._context = config.context
        self._document_end_id = document_end_id
        self._paddings_B1 = torch.tensor(paddings, device=device)[:, None]
        self._padded = any(paddings)
        # The first column that each row's next token sees.
        self._starts_B1 = self._paddings_B1

    @property
    def used(self) -> int:
        """Columns that are filled."""
        return self.layers[0].used

    def positions(self, length: int) -> slice | Tensor:
        """Positions of the next `length` columns: the same for all rows, or [B, T] where some have padding."""
        if not self._padded:
            return slice(self.used, self.used + length)
        columns_T = torch.arange(self.used, self.used + length, device=self._paddings_B1.device)
        # Padding is computed like any token, and so is what comes after a row's end: both need a position that exists.
        return (columns_T - self._paddings_B1).clamp(0, self._context - 1)

    def mask(self, tokens_BT: Tensor) -> Tensor | None:
        """[B, 1, T, S], true where the new tokens may look; None where each sees all columns up to its own.

        Called once for each `tokens_BT` that is added, before it is.
        """
        length = tokens_BT.shape[1]
        if not self._padded and self._document_end_id is None and (length == 1 or self.used == 0):
            return None
        end = self.used + length
        columns_S = torch.arange(end, device=tokens_BT.device)
        columns_T = columns_S[self.used :]
        # A column of padding sees itself: a softmax over nothing would be NaN, and NaN times a weight of 0 is NaN.
        starts_BT = torch.minimum(self._document_starts(tokens_BT, columns_T), columns_T)
        return ((columns_S >= starts_BT[..., None]) & (columns_S <= columns_T[:, None]))[:, None]

    def _document_starts(self, tokens_BT: Tensor, columns_T: Tensor) -> Tensor:
        """[B, T], the first column of each new token's own document."""
        if self._document_end_id is None:
            return self._starts_B1
        # The token that ends a document belongs to it; the next one starts in the column behind it.
        after_BT = torch.where(tokens_BT == self._document_end_id, columns_T + 1, 0).cummax(1).values
        starts_BT = torch.maximum(torch.cat([torch.zeros_like(self._starts_B1), after_BT], dim=1), self._starts_B1)
        self._starts_B1 = starts_BT[:, -1:]
        return starts_BT[:, :-1]
