"""What is kept of each kind of line while a run's files pass by, in memory that grows with training.jsonl alone.

Pure; fed by `trainer.metrics.report.reading`. Numbers that are missing, not finite or of another type are None.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from statistics import fmean
from typing import Any, NamedTuple

from trainer.metrics.goodput import STARTING, Bucket

Record = Mapping[str, Any]
_MOST_POINTS = 4096
# Buckets that faults alone fill; starts count too, after the first attempt.
_LOST = (Bucket.WASTED_PROGRESS, Bucket.INFRA_RECOVERY)


def number(record: Record, key: str) -> float | None:
    """A finite number of a record."""
    value = record.get(key)
    if type(value) is float or type(value) is int:
        # What is too large for a float is damage, not a figure.
        return value if -sys.float_info.max <= value <= sys.float_info.max else None
    return None


def whole(record: Record, key: str) -> int | None:
    """A whole number of a record."""
    value = record.get(key)
    return value if type(value) is int else None


def numbers(value: object) -> dict[str, float]:
    """{name: finite number} of a mapping; what is none is left out."""
    if not isinstance(value, Mapping):
        return {}
    return {str(key): found for key in value if (found := number(value, key)) is not None}


class TrainingLine(NamedTuple):
    """What the report needs of a line of training.jsonl."""

    attempt: int
    step: int
    seconds: float | None
    """Since the epoch."""
    tokens: int | None
    epoch: float | None
    loss: float | None
    evaluated: bool
    """Whether it is of an evaluation, whose `validation_loss` is None where it was not a number."""
    validation_loss: float | None
    tokens_per_second: float | None
    step_seconds: float | None
    mfu_ratio: float | None
    world_size: int | None
    memory_bytes: float | None
    nonfinite: bool
    """Whether its loss was not a number, which lines write as null."""


def training_line(attempt: int, seconds: float | None, record: Record) -> TrainingLine:
    """The line of a record that has a step."""
    return TrainingLine(
        attempt,
        record["step"],
        seconds,
        whole(record, "tokens"),
        number(record, "epoch"),
        number(record, "loss"),
        "validation_loss" in record,
        number(record, "validation_loss"),
        number(record, "tokens_per_second"),
        number(record, "step_seconds"),
        number(record, "mfu_ratio"),
        whole(record, "world_size"),
        number(record, "memory_bytes"),
        "loss" in record and number(record, "loss") is None,
    )


class Event(NamedTuple):
    """A line of events.jsonl."""

    attempt: int
    seconds: float | None
    kind: str
    reason: str | None
    message: str
    step: int | None


def event(attempt: int, seconds: float | None, record: Record) -> Event:
    """The event of a record; words that are missing are empty."""
    reason, message = record.get("reason"), record.get("message")
    return Event(
        attempt,
        seconds,
        str(record.get("kind") or ""),
        reason if isinstance(reason, str) else None,
        message if isinstance(message, str) else "",
        whole(record, "step"),
    )


class GoodputPoint(NamedTuple):
    """The account of a run's life at one moment."""

    seconds: float
    """Since the epoch."""
    buckets: tuple[float, ...]
    """Seconds, in the order of `Bucket`."""


class PerformanceFold:
    """performance.jsonl."""

    def __init__(self) -> None:
        self.lines = 0
        self.goodput: dict[str, float] = {}
        """Of the last line, as the next two."""
        self.gpu_seconds: dict[str, float] = {}
        self._lost: float | None = None
        self._first_attempt: tuple[int, dict[str, float]] | None = None
        self.points: list[GoodputPoint] = []
        """Of all lines, or of one in 2, 4, 8 ... where they are many; the last one is always there."""
        self._every, self._point_number = 1, 0
        self.stall_seconds: dict[int, float] = {}
        """Attempt -> time that its steps waited for saves."""
        self._shares: dict[tuple[str, ...], list[dict[str, float]]] = {}
        self.slowest: Counter[int] = Counter()
        self.spreads: list[float] = []
        self.hosts: dict[str, None] = {}
        self.cpu_ratios: list[float] = []
        self.memory_ratio: float | None = None
        self.disk_free_bytes: float | None = None

    @property
    def shares(self) -> dict[str, float]:
        """Mean part of a step's time, the largest first.

        Lines from before the first profiled step know fewer parts; where others know more, those alone count.
        """
        if not self._shares:
            return {}
        parts, lines = max(self._shares.items(), key=lambda item: len(item[0]))
        means = {part: fmean(line[part] for line in lines) for part in parts}
        return dict(sorted(means.items(), key=lambda item: -item[1]))

    @property
    def lost_gpu_seconds(self) -> float:
        """What faults cost, as the last line says or as its buckets do."""
        if self._lost is not None:
            return self._lost
        lost = sum(self.gpu_seconds.get(bucket, 0.0) for bucket in _LOST)
        before = self._first_attempt[1] if self._first_attempt else {}
        return lost + sum(self.gpu_seconds.get(bucket, 0.0) - before.get(bucket, 0.0) for bucket in STARTING)

    def add(self, attempt: int, seconds: float | None, record: Record) -> None:
        """Take one line."""
        self.lines += 1
        self._add_account(attempt, seconds, record)
        if (stall := number(record, "checkpoint_stall_seconds")) is not None:
            self.stall_seconds[attempt] = stall
        if shares := numbers(record.get("shares")):
            self._shares.setdefault(tuple(shares), []).append(shares)
        if record.get("world_size") != 1:  # of one rank there is no slowest
            self._add_ranks(record)
        for host in _records(record.get("hosts")):
            self._add_host(host)

    def _add_ranks(self, record: Record) -> None:
        if (rank := whole(record, "slowest_rank")) is not None:
            self.slowest[rank] += 1
        ranks = numbers(record.get("rank_step_seconds"))
        if ranks.get("median") and "max" in ranks:
            self.spreads.append(ranks["max"] / ranks["median"])

    def _add_account(self, attempt: int, seconds: float | None, record: Record) -> None:
        goodput = numbers(record.get("goodput_seconds"))
        if not goodput:
            return
        self.goodput, self.gpu_seconds = goodput, numbers(record.get("gpu_seconds"))
        self._lost = number(record, "lost_gpu_seconds")
        if self._first_attempt is None or self._first_attempt[0] == attempt:
            self._first_attempt = (attempt, self.gpu_seconds)
        if seconds is None:
            return
        if self.points and self._point_number % self._every:
            self.points.pop()  # only the last one of a group stays
        self._point_number += 1
        self.points.append(GoodputPoint(seconds, tuple(goodput.get(bucket, 0.0) for bucket in Bucket)))
        if len(self.points) > _MOST_POINTS:
            # Their number is odd: the last one stays.
            self.points, self._every, self._point_number = self.points[::2], 2 * self._every, 0

    def _add_host(self, host: Record) -> None:
        if isinstance(name := host.get("host"), str):
            self.hosts[name] = None
        if (cpu := number(host, "cpu_ratio")) is not None:
            self.cpu_ratios.append(cpu)
        used, total = number(host, "memory_used_bytes"), number(host, "memory_total_bytes")
        if used is not None and total:
            self.memory_ratio = max(self.memory_ratio or 0.0, used / total)
        if (free := number(host, "disk_free_bytes")) is not None:
            self.disk_free_bytes = free if self.disk_free_bytes is None else min(self.disk_free_bytes, free)


class GpuPoint(NamedTuple):
    """All GPUs of a run at one step."""

    attempt: int
    seconds: float
    """Since the epoch."""
    utilization_ratio: float | None
    """Mean."""
    memory_ratio: float | None
    """Fullest GPU."""


class GpuFold:
    """gpu.jsonl: lines of the same step are one point."""

    def __init__(self) -> None:
        self.points: list[GpuPoint] = []
        self.gpus: set[tuple[str, str]] = set()
        self.names: dict[str, None] = {}
        self.memory_used_bytes: float | None = None
        self.memory_total_bytes: float | None = None
        self.temperature_celsius: float | None = None
        self._sums: dict[str, list[float]] = {"utilization_ratio": [0.0, 0], "power_watts": [0.0, 0]}
        self._step: tuple[int, int] | None = None
        self._group: list[tuple[float, float | None, float | None]] = []

    def mean(self, key: str) -> float | None:
        """Mean over GPUs and lines of utilization_ratio or power_watts."""
        total, count = self._sums[key]
        return total / count if count else None

    def add(self, attempt: int, seconds: float | None, record: Record) -> None:
        """Take one line."""
        self.gpus.add((str(record.get("node")), str(record.get("gpu"))))
        if isinstance(name := record.get("name"), str):
            self.names[name] = None
        for key, sums in self._sums.items():
            if (value := number(record, key)) is not None:
                sums[0] += value
                sums[1] += 1
        for key in ("memory_used_bytes", "memory_total_bytes", "temperature_celsius"):
            if (value := number(record, key)) is not None:
                setattr(self, key, max(getattr(self, key) or value, value))
        if (attempt, record["step"]) != self._step:
            self.finish()
            self._step = (attempt, record["step"])
        if seconds is not None:
            used, total = number(record, "memory_used_bytes"), number(record, "memory_total_bytes")
            fullness = used / total if used is not None and total else None
            self._group.append((seconds, number(record, "utilization_ratio"), fullness))

    def finish(self) -> None:
        """Make a point of the lines of the last step."""
        if self._step is None or not self._group:
            return
        used = [ratio for _, ratio, _ in self._group if ratio is not None]
        fullness = [ratio for _, _, ratio in self._group if ratio is not None]
        mean = fmean(used) if used else None
        self.points.append(GpuPoint(self._step[0], self._group[-1][0], mean, max(fullness, default=None)))
        self._group = []


def _records(value: object) -> Iterator[Record]:
    if isinstance(value, list):
        yield from (entry for entry in value if isinstance(entry, Mapping))
