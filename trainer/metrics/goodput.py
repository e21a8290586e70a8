"""Where the time of a run goes: seconds by bucket, from its launch to now, the gaps between attempts included.

The train loop says at each turn what begins (`GoodputClock.enter`); what is told, written and carried on is a `Ledger`.
Pure but for the clock that is handed in. The buckets are Google's (ML goodput, 2024), with the time in which nothing
ran and the time of work done twice kept apart: the one is the platform's fault, the other the checkpoint interval's.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any


class Bucket(StrEnum):
    """What a second of a run was spent on."""

    INIT = "init"
    TRAINING_PREP = "training_prep"
    CHECKPOINT_RESTORE = "checkpoint_restore"
    PROGRAM_START = "program_start"
    DATA_LOADING = "data_loading"
    TRAINING = "training"
    CHECKPOINT_SAVE = "checkpoint_save"
    EVALUATION = "evaluation"
    WASTED_PROGRESS = "wasted_progress"
    INFRA_RECOVERY = "infra_recovery"
    OTHER = "other"

    @property
    def meaning(self) -> str:
        """In words for people."""
        return _MEANING[self]


_MEANING = {
    Bucket.INIT: "Processes start, import, and find each other",
    Bucket.TRAINING_PREP: "Data is opened, the model built and compiled",
    Bucket.CHECKPOINT_RESTORE: "A checkpoint is loaded",
    Bucket.PROGRAM_START: "The first step of an attempt, in which kernels are compiled and buffers made",
    Bucket.DATA_LOADING: "Steps wait for their batch",
    Bucket.TRAINING: "Steps that led to the weights of now",
    Bucket.CHECKPOINT_SAVE: "Steps wait for a save",
    Bucket.EVALUATION: "Validation during training",
    Bucket.WASTED_PROGRESS: "Steps that had to be done again",
    Bucket.INFRA_RECOVERY: "Nobody trained: from the last sign of an attempt to the first process of the next",
    Bucket.OTHER: "Logging and what else lies between steps",
}
STARTING = (Bucket.INIT, Bucket.TRAINING_PREP, Bucket.CHECKPOINT_RESTORE, Bucket.PROGRAM_START)
# Whatever the clock says, no gap is longer: it was set wrong.
_LONGEST_GAP_SECONDS = 366 * 86400.0


@dataclass(frozen=True)
class Ledger:
    """The account of a run's life up to `time`."""

    time: datetime
    seconds: Mapping[Bucket, float] = field(default_factory=dict)
    gpu_seconds: Mapping[Bucket, float] = field(default_factory=dict)
    """The same times the GPUs that were held (workers, where there is no GPU)."""
    lost_gpu_seconds: float = 0.0
    """Of them, what faults cost: work done twice, time without workers, starts after the first."""

    def spend(self, bucket: Bucket, seconds: float, gpus: float, *, lost: bool = False) -> Ledger:
        """With so many more seconds in `bucket`; `time` stays."""
        return replace(
            self,
            seconds={**self.seconds, bucket: self.seconds.get(bucket, 0.0) + seconds},
            gpu_seconds={**self.gpu_seconds, bucket: self.gpu_seconds.get(bucket, 0.0) + seconds * gpus},
            lost_gpu_seconds=self.lost_gpu_seconds + (seconds * gpus if lost else 0.0),
        )

    @property
    def goodput_ratio(self) -> float:
        """Training's share of all time; 0 for a ledger without time."""
        total = sum(self.seconds.values())
        return self.seconds.get(Bucket.TRAINING, 0.0) / total if total else 0.0

    def to_json(self) -> dict[str, Any]:
        """As in performance.jsonl and progress.json; milliseconds are enough."""
        return {
            "time": self.time.isoformat(timespec="milliseconds"),
            "goodput_seconds": {bucket.value: round(seconds, 3) for bucket, seconds in self.seconds.items()},
            "gpu_seconds": {bucket.value: round(seconds, 3) for bucket, seconds in self.gpu_seconds.items()},
            "lost_gpu_seconds": round(self.lost_gpu_seconds, 3),
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Ledger:
        """What `to_json` made; further keys are ignored. Raises KeyError, TypeError or ValueError for anything else."""
        return cls(
            time=datetime.fromisoformat(document["time"]),
            seconds=_by_bucket(document["goodput_seconds"]),
            gpu_seconds=_by_bucket(document["gpu_seconds"]),
            lost_gpu_seconds=float(document["lost_gpu_seconds"]),
        )


def _by_bucket(document: Mapping[str, Any]) -> dict[Bucket, float]:
    return {Bucket(name): float(seconds) for name, seconds in document.items()}


def resumed(last: Ledger, restored: Ledger | None, *, gpus: float, began: datetime, held_since: datetime) -> Ledger:
    """The account at the first moment of an attempt that goes on.

    last: the newest account that earlier attempts left; restored: that of the checkpoint it goes on from, None if it
    begins from step 0. Training done since the checkpoint was in vain. From `last` to `began` nobody trained; the part
    of it since `held_since` (when this attempt's launcher started: its machines were there) is paid for.
    """
    if restored is not None and restored.time >= last.time:
        last = restored  # what was written after the checkpoint is lost
    seconds, _ = _without_vain(last.seconds, restored.seconds if restored is not None else {})
    gpu_seconds, lost = _without_vain(last.gpu_seconds, restored.gpu_seconds if restored is not None else {})
    ledger = Ledger(last.time, seconds, gpu_seconds, last.lost_gpu_seconds + lost)
    gap = _seconds_between(last.time, began)
    held = min(gap, _seconds_between(held_since, began))
    ledger = ledger.spend(Bucket.INFRA_RECOVERY, gap - held, 0.0)
    return replace(ledger.spend(Bucket.INFRA_RECOVERY, held, gpus, lost=True), time=began)


def _without_vain(spent: Mapping[Bucket, float], restored: Mapping[Bucket, float]) -> tuple[dict[Bucket, float], float]:
    """Seconds with the training since the checkpoint under WASTED_PROGRESS, and how many these were."""
    training = spent.get(Bucket.TRAINING, 0.0)
    vain = max(training - restored.get(Bucket.TRAINING, 0.0), 0.0)
    wasted = spent.get(Bucket.WASTED_PROGRESS, 0.0) + vain
    return {**spent, Bucket.TRAINING: training - vain, Bucket.WASTED_PROGRESS: wasted}, vain


def _seconds_between(start: datetime, end: datetime) -> float:
    return min(max((end - start).total_seconds(), 0.0), _LONGEST_GAP_SECONDS)


class GoodputClock:
    """Counts the seconds of one attempt into its run's ledger."""

    def __init__(
        self,
        *,
        began: datetime,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """began: when this process started: it has been INIT since.

        clock: monotonic seconds, by which everything after that is counted.
        """
        self._gpus = 1.0
        self._clock, self._now = clock, now
        self._ledger = Ledger(time=began)
        self._bucket = Bucket.INIT
        self._since = clock() - _seconds_between(began, now())
        self._restart = False
        self.stretch_seconds: dict[Bucket, float] = {}
        """Seconds by bucket since `begin_stretch`."""

    def enter(self, bucket: Bucket) -> None:
        """What was done until now ends, `bucket` begins."""
        now = self._clock()
        seconds = now - self._since
        self.stretch_seconds[self._bucket] = self.stretch_seconds.get(self._bucket, 0.0) + seconds
        self._spend(self._bucket, seconds)
        self._since, self._bucket = now, bucket

    def begin_stretch(self) -> None:
        """Count `stretch_seconds` anew."""
        self.enter(self._bucket)
        self.stretch_seconds = {}

    def settle(self, past: Ledger, gpus: float, *, restart: bool) -> None:
        """Once it is known what went before this process, how many GPUs are held, and whether attempts went before."""
        own = self.ledger()
        self._gpus, self._restart = gpus, restart
        self._ledger = past
        for bucket, seconds in own.seconds.items():
            self._spend(bucket, seconds)

    def ledger(self) -> Ledger:
        """The account up to now."""
        self.enter(self._bucket)
        return replace(self._ledger, time=self._now())

    def _spend(self, bucket: Bucket, seconds: float) -> None:
        lost = self._restart and bucket in STARTING
        self._ledger = self._ledger.spend(bucket, seconds, self._gpus, lost=lost)
