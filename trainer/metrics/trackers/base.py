"""What a tracker is, and the lines it is given.

Trackers get what the run's own JSON lines files get, so a tracker never knows more than the store does: whatever one
missed can be made again from the lines, as `gpt-run tensorboard` does. Implemented by the modules beside this one,
driven by `trainer.metrics.trackers.feed`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, get_args

Kind = Literal["training", "histograms", "samples"]
"""What a line is of, and the name of the lines file that holds it."""
KINDS: tuple[Kind, ...] = get_args(Kind)

# Key of a line of training.jsonl -> what the curve is called; viewers group them by what stands before the slash.
CURVES = {
    "loss": "train/loss",
    "lr": "train/lr",
    "grad_norm": "train/grad_norm",
    "epoch": "train/epoch",
    "tokens": "train/tokens",
    "tokens_per_second": "speed/tokens_per_second",
    "step_seconds": "speed/step_seconds",
    "mfu_ratio": "speed/mfu_ratio",
    "memory_bytes": "speed/memory_bytes",
    "world_size": "speed/world_size",
    "validation_loss": "validation/loss",
    "perplexity": "validation/perplexity",
    "bits_per_byte": "validation/bits_per_byte",
    "general_loss": "validation/general_loss",
    "forgetting": "validation/forgetting",
    "hellaswag_acc_norm": "validation/hellaswag_acc_norm",
}


@dataclass(frozen=True)
class Line:
    """One line of a run's lines files. `record` has `step`, and is not changed by anybody once it is a line."""

    kind: Kind
    record: dict[str, Any]


class Tracker(Protocol):
    """One place that lines go to. All its methods run in one thread of its own, so they may wait; they may raise."""

    name: str
    """What messages call it: its `type` in a run file."""
    interval_seconds: float
    """How long lines are gathered before they are handed over; 0 hands each over at once."""

    def write(self, lines: Sequence[Line]) -> None:
        """Take over lines, in order. After an error the same lines come again: what was taken must not count twice."""
        ...

    def close(self) -> None:
        """All lines were written, or given up."""
        ...


def curves_of(record: dict[str, Any]) -> dict[str, float]:
    """The figures of a line of training.jsonl by the names of their curves; what is null or no number is left out."""
    found = {curve: record.get(key) for key, curve in CURVES.items()}
    return {
        curve: value for curve, value in found.items() if isinstance(value, int | float) and not isinstance(value, bool)
    }
