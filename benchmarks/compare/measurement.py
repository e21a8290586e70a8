"""What a part of the comparison says: one quantity, as every side showed it round by round, and what is made of it."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any, Self

from benchmarks.training_sides import OURS

__all__ = ["OURS", "Measurement", "Part", "Report"]


@dataclass(frozen=True)
class Measurement:
    """One row. Every side has a value for each round; in a round the sides took turns."""

    what: str
    unit: str
    more_is_better: bool
    rounds: dict[str, list[float]]
    """Values by side, ours first."""
    bar: float | None = None
    """What `ratio` should reach; None where nothing was set."""
    digits: int = 2
    """After the point, when shown."""

    def median(self, side: str) -> float:
        """One side's value."""
        return statistics.median(self.rounds[side])

    def ratio_to(self, peer: str) -> float:
        """How much better we are than one peer: the median over rounds of one value over the other; 1 is equal."""
        ours, theirs = self.rounds[OURS], self.rounds[peer]
        pairs = zip(ours, theirs, strict=True) if self.more_is_better else zip(theirs, ours, strict=True)
        return statistics.median(above / below for above, below in pairs)

    @property
    def ratio(self) -> float | None:
        """The same against the peer that comes off best; None where no peer has a figure."""
        return min((self.ratio_to(peer) for peer in self.rounds if peer != OURS), default=None)

    @property
    def enough(self) -> bool:
        """Whether the bar is reached."""
        return self.bar is None or self.ratio is None or self.ratio >= self.bar

    def to_json(self) -> dict[str, Any]:
        """As kept in results.json and printed, with the medians and ratios for whoever reads it."""
        peers = [side for side in self.rounds if side != OURS]
        found = {
            "medians": {side: self.median(side) for side in self.rounds},
            "ratios": {peer: self.ratio_to(peer) for peer in peers},
            "ratio": self.ratio,
            "enough": self.enough,
        }
        return {**asdict(self), **found}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Self:
        """From what `to_json` gave."""
        return cls(**{key: value for key, value in data.items() if key in cls.__dataclass_fields__})


@dataclass(frozen=True)
class Report:
    """What one part found."""

    measurements: list[Measurement]
    absent: dict[str, str] = field(default_factory=dict)
    """Peers that could not be measured, with what was said instead."""


@dataclass(frozen=True)
class Part:
    """One part of the comparison."""

    title: str
    settings: str
    """What was done by all sides, in a sentence or two for the page."""
    measure: Callable[[bool], Report]
    """Takes the measurements; true asks for a quick try at tiny sizes, whose figures say nothing."""
