"""Which checkpoints stay. Pure: no clock, no store; `trainer.checkpoint.save` and `prune` apply what it decides.

A checkpoint stays while at least one tier holds it. Tiers are derived from what is there, never stored.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from trainer.checkpoint.config import KeepConfig
from trainer.checkpoint.layout import Checkpoint, RunListing, parse_name

LATEST, ROLLING, EPOCH, BEST, PINNED_TIER = "latest", "rolling", "epoch", "best", "pinned"


@dataclass(frozen=True)
class Facts:
    """What retention knows of a committed checkpoint."""

    name: str
    epoch: float
    validation_loss: float | None = None
    pinned: bool = False

    @classmethod
    def of(cls, checkpoint: Checkpoint) -> Facts:
        committed = checkpoint.committed
        return cls(checkpoint.name, committed.epoch, committed.validation_loss, checkpoint.pinned)


def tiers(facts: Sequence[Facts], newest_first: Sequence[str], keep: KeepConfig) -> dict[str, tuple[str, ...]]:
    """Name -> the tiers that hold it, () for none.

    newest_first: names in the lineage's order; checkpoints outside of it (of fenced attempts) are held by `best` and
    `pinned` alone.
    """
    by_name = {fact.name: fact for fact in facts}
    line = [by_name[name] for name in newest_first if name in by_name]
    held: dict[str, list[str]] = {fact.name: [] for fact in facts}
    for fact in line[:1]:
        held[fact.name].append(LATEST)
    for fact in line[: keep.rolling]:
        held[fact.name].append(ROLLING)
    for fact in _ends_of_epochs(line, keep):
        held[fact.name].append(EPOCH)
    for fact in best_first(facts)[: keep.best]:
        held[fact.name].append(BEST)
    for fact in facts:
        if fact.pinned:
            held[fact.name].append(PINNED_TIER)
    return {name: tuple(names) for name, names in held.items()}


def best_first(facts: Iterable[Facts]) -> list[Facts]:
    """Those with a finite validation loss, lowest first; of equals the one that trained longer."""
    scored = [fact for fact in facts if fact.validation_loss is not None and math.isfinite(fact.validation_loss)]
    return sorted(scored, key=lambda fact: (fact.validation_loss, [-part for part in parse_name(fact.name) or ()]))


def to_delete(
    facts: Sequence[Facts], newest_first: Sequence[str], keep: KeepConfig, protected: Iterable[str] = ()
) -> list[str]:
    """Names that no tier holds, oldest first. `protected`: names that something still reads."""
    spared = set(protected)
    held = tiers(facts, newest_first, keep)
    return sorted(name for name, names in held.items() if not names and name not in spared)


def protected_base(attempt: int, base: str | None, committed: Iterable[str]) -> tuple[str, ...]:
    """The checkpoint that `attempt` began from, until it has a commit of its own: a restart would need it again."""
    has_own = any(parsed is not None and parsed[1] == attempt for parsed in map(parse_name, committed))
    return () if base is None or has_own else (base,)


def torn_to_clean(listing: RunListing, attempt: int, *, between_saves: bool) -> list[str]:
    """Folders without a marker that `attempt`, the newest, or an older one left, once `attempt` has committed itself.

    Its own only where it is known to be `between_saves`; else, as those of a newer one, they may be in the middle of a
    save.
    """
    if not any(checkpoint.attempt == attempt for checkpoint in listing.committed):
        return []
    newest = attempt if between_saves else attempt - 1
    parsed = {name: parse_name(name) for name in listing.torn}
    return sorted(name for name, found in parsed.items() if found is not None and found[1] <= newest)


def _ends_of_epochs(line: Sequence[Facts], keep: KeepConfig) -> list[Facts]:
    """The last checkpoint of each finished epoch, newest epoch first. Epoch k covers progress in (k, k+1]."""
    if keep.epochs is False or not line:
        return []
    furthest = max(fact.epoch for fact in line)
    ends: dict[int, Facts] = {}
    for fact in line:
        epoch = math.ceil(fact.epoch) - 1
        if epoch >= 0 and furthest >= epoch + 1 and (epoch not in ends or fact.epoch > ends[epoch].epoch):
            ends[epoch] = fact
    newest = sorted(ends.values(), key=lambda fact: fact.epoch, reverse=True)
    return newest if keep.epochs is True else newest[: keep.epochs]
