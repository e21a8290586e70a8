"""Does validation track training? The loss on sequences the run has learned from, against that on held-out ones.

Called by `trainer.evaluate.evaluation`. A run's order is a pure function of its settings, so the sample is of sequences
that it has really seen, from steps spread evenly over its life, and not of whatever the training set holds.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict

from trainer.data.config import DataConfig
from trainer.data.dataset import open_training
from trainer.data.loader import BatchLoader, read_rows
from trainer.data.order import Int64
from trainer.evaluate.loss import Evaluation

# A smaller difference is of no account, however sure it is.
_SHARE = 0.05
# A larger difference is of no account as long as chance may have made it.
_STANDARD_ERRORS = 3.0

Verdict = Literal["tracks", "over-fit", "easier"]


class Comparison(BaseModel):
    """Held-out loss against the loss on what was learned from."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    training_loss: float
    """Mean loss on sequences that the run has seen, nats per token."""
    training_sequences: int
    """How many of them."""
    gap: float
    """Validation loss less training loss, nats per token."""
    gap_standard_error: float | None
    """Of the gap, from how the batches of both samples differ."""
    verdict: Verdict
    """tracks: the gap is below 5% of the training loss or three standard errors; over-fit: it is above both; easier: it
    is as far below zero, so the held-out text is of an easier kind."""


def compare(training: Evaluation, validation: Evaluation) -> Comparison:
    """Judge the gap between two losses. Pure."""
    gap = validation.validation_loss - training.validation_loss
    errors = (training.standard_error, validation.standard_error)
    error = None if None in errors else math.hypot(*(each or 0.0 for each in errors))
    limit = max(_SHARE * training.validation_loss, _STANDARD_ERRORS * (error or 0.0))
    verdict: Verdict = "tracks" if abs(gap) <= limit else "over-fit" if gap > 0 else "easier"
    return Comparison(
        training_loss=training.validation_loss,
        training_sequences=training.sequences,
        gap=gap,
        gap_standard_error=error,
        verdict=verdict,
    )


def seen_batches(run: Mapping[str, Any], *, steps: int, sequences: int, micro: int, vocab_size: int) -> Iterator[Int64]:
    """Batches [n, T+1], n <= micro, of up to `sequences` samples that the first `steps` steps of a run have read.

    run: its effective run file. UserError where its training data is not here.
    """
    data = DataConfig.model_validate(run["data"])
    length = int(run["sequence_length"])
    splits = open_training(data, length)
    batch_sequences = int(run["batch"]["sequences"])
    loader = BatchLoader(
        splits,
        batch_sequences=batch_sequences,
        sequence_length=length,
        seed=int(run["seed"]),
        weights=[source.weight for source in data.train],
        shuffle_group_bytes=data.shuffle_group_bytes,
        workers=0,
    )
    picks = pick_seen(steps, batch_sequences, sequences)
    # Each once, however often the run has seen it, and in the order in which they lie in the shards.
    ids = np.unique([loader.batch_ids(step)[row] for step, row in picks], axis=0)
    for start in range(0, len(ids), micro):
        yield read_rows(splits, ids[start : start + micro], length, vocab_size)


def pick_seen(steps: int, batch_sequences: int, sequences: int) -> list[tuple[int, int]]:
    """(step, row of its batch) of `sequences` samples, spread evenly over all that `steps` steps have read. Pure."""
    total = steps * batch_sequences
    chosen = min(sequences, total)
    return [divmod(number * total // chosen, batch_sequences) for number in range(chosen)]
