"""Rows of a batch as the model takes them: inputs, the targets that count, and what is packed together.

Called by the step and by evaluation, for rows of every kind of set. Shapes: B = sequences, T = tokens of a sequence.
"""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from trainer.data.marks import CONTEXT, FIRST, ids_of, marks_of
from trainer.model.loss import IGNORED_TARGET


class Inputs(NamedTuple):
    """The arguments of `Decoder.forward`, all [B, T]."""

    tokens: Tensor
    targets: Tensor
    documents: Tensor | None = None

    def count_targets(self) -> Tensor:
        """Targets that count in the loss, a scalar on the device."""
        return (self.targets != IGNORED_TARGET).sum()


def model_inputs(rows: Tensor, *, packed: bool) -> Inputs:
    """Inputs and targets of `rows` [B, T+1]; of `packed` ones with their samples numbered and other targets ignored."""
    if not packed:
        return Inputs(rows[:, :-1], rows[:, 1:])
    ids, marks = ids_of(rows), marks_of(rows)
    targets_BT = ids[:, 1:].masked_fill((marks[:, 1:] & CONTEXT) != 0, IGNORED_TARGET)
    documents_BT = ((marks[:, :-1] & FIRST) != 0).cumsum(1)
    return Inputs(ids[:, :-1], targets_BT, documents_BT)
