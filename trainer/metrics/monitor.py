"""What an attempt measures of itself: time by bucket, parts of a step, memory, machines, cost.

One a rank; the train loop tells it what happens. Rank 0's turns it into the fields that launchers, the coordinator and
/metrics show, and into the lines of performance.jsonl, gpu.jsonl and events.jsonl. `interval` is collective.
"""

from __future__ import annotations

import math
import statistics
import time
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from typing import Any

import psutil
import torch

from trainer.checkpoint.attempts import PreviousEnd
from trainer.checkpoint.save import SaveResult
from trainer.metrics.catalogue import STEP_SECONDS
from trainer.metrics.config import CostConfig
from trainer.metrics.goodput import Bucket, GoodputClock, Ledger
from trainer.metrics.history import History
from trainer.metrics.machine import Machine, Place, Reading, gather_readings
from trainer.metrics.step_sample import SampleClock, StepParts, StepSample

# Where no dcgm-exporter is, so many GPUs and nodes are shown in /metrics; files have all of them.
_MOST_SHOWN = 8
_SHARE_OF_BUCKET = {
    Bucket.DATA_LOADING: "data",
    Bucket.CHECKPOINT_SAVE: "checkpoint",
    Bucket.EVALUATION: "evaluation",
}
_STEPS = (Bucket.TRAINING, Bucket.PROGRAM_START)
_STEP_PARTS = ("forward_backward", "communication", "optimizer")


@dataclass
class Totals:
    """What an attempt has done so far; the names are those of the report to /metrics."""

    tokens: int = 0
    steps: int = 0
    flops: float = 0.0
    nonfinite_steps: int = 0
    checkpoint_stall_seconds: float = 0.0
    checkpoint_failures: int = 0
    step_durations_sum: float = 0.0
    step_durations: list[int] = field(default_factory=lambda: [0] * (len(STEP_SECONDS) + 1))
    """Steps by duration: up to each of STEP_SECONDS, and longer ones."""


class Monitor:
    """One rank's; only rank 0's has a `history`."""

    def __init__(
        self,
        *,
        clock: GoodputClock,
        device: torch.device,
        machine: Machine,
        places: Sequence[Place],
        sample_clock: SampleClock,
        cost: CostConfig,
        flops_per_token: int,
        attempt: str,
        account: Ledger,
        info: Mapping[str, str],
        history: History | None,
    ) -> None:
        """places: of all ranks. account: of the run up to this attempt's begin."""
        self.clock = clock
        self._device = device
        self._machine, self._places = machine, places
        self._sample_clock = sample_clock
        self._cost = cost
        self._flops_per_token = flops_per_token
        self._attempt = attempt
        self._settled = account
        """What the next attempt will find in the store, whatever happens: counters that a run carries through its life
        say no more, or they would fall when both a worker and the coordinator die."""
        self._snapshots: dict[int, Ledger] = {}
        self._info = dict(info)
        self._history = history
        self._sample: StepSample | None = None
        self._parts: StepParts | None = None
        self._totals = Totals()
        self._eta_seconds: float | None = None

    # What the loop tells.

    def step_begins(self, *, profiled: bool) -> StepSample | nullcontext[None]:
        """What a step runs in."""
        first = self._totals.steps == 0
        self.clock.enter(Bucket.PROGRAM_START if first else Bucket.TRAINING)
        self._sample = StepSample(self._device) if profiled else None
        return self._sample or nullcontext()

    def step_ended(self, seconds: float, *, tokens: int, finite: bool) -> None:
        """Count one step; seconds: from asking for its batch to its update."""
        self.clock.enter(Bucket.OTHER)
        totals = self._totals
        totals.steps += 1
        totals.tokens += tokens
        totals.flops += float(tokens) * self._flops_per_token
        totals.nonfinite_steps += not finite
        totals.step_durations[bisect_left(STEP_SECONDS, seconds)] += 1
        totals.step_durations_sum += seconds
        if self._sample is not None and self._sample.parts is not None:
            self._parts = self._sample.parts
            self._sample_clock.sampled(time.monotonic(), self._sample.cost_seconds)

    def sample_due(self) -> bool:
        """Whether this rank wants all to profile the next step; rank 0's word counts."""
        return self._sample_clock.due(time.monotonic())

    def snapshot(self, step: int) -> dict[str, Any]:
        """The account as of a snapshot, to be kept in its checkpoint."""
        self._snapshots[step] = self.clock.ledger()
        return self._snapshots[step].to_json()

    def save_ended(self, result: SaveResult) -> None:
        """A save is through, has failed, or met a newer attempt: only what is committed is training that counts."""
        self._totals.checkpoint_stall_seconds += result.stall_seconds
        self._totals.checkpoint_failures += result.error is not None
        ledger = self._snapshots.pop(result.step, None)
        if result.ok and ledger is not None:
            self._settled = ledger

    # What rank 0 tells and writes.

    def begin(self, head: Mapping[str, Any], previous_end: PreviousEnd | None) -> None:
        """Write down that the attempt begins, and the account so far: the next one goes on there if it ends at once."""
        if self._history is None:
            return
        reason = previous_end.reason if previous_end is not None else None
        self.event(head, "attempt", reason=reason, message=previous_end.message if previous_end is not None else "")
        self._write_performance(head, {})
        self._history.flush(time.monotonic())

    def interval(self, head: Mapping[str, Any], eta_seconds: float | None) -> dict[str, Any]:
        """The figures since the last call, as fields of a report; rank 0 writes them down. Collective.

        head: time, run, attempt, step, tokens and epoch. Other ranks get {}.
        """
        own = self._parts.own_seconds if self._parts is not None else math.nan
        readings = gather_readings(self._machine.read(own, time.monotonic()), len(self._places))
        return self.take_readings(readings, head, eta_seconds)

    def take_readings(
        self, readings: Sequence[Reading], head: Mapping[str, Any], eta_seconds: float | None
    ) -> dict[str, Any]:
        """What an interval makes of all ranks' readings."""
        self._eta_seconds = eta_seconds
        shares = self._shares()
        self.clock.begin_stretch()
        if self._history is None:
            return {}
        ranks = rank_seconds([reading.own_step_seconds for reading in readings])
        nodes = self._nodes(readings)
        gpus = self._gpus(readings)
        figures = {"shares": shares, **ranks}
        self._write_performance(head, {**figures, "hosts": nodes})
        for gpu in gpus:
            self._history.write({**_without_position(head), **gpu}, time.monotonic(), name="gpu")
        return {
            **figures,
            "memory": memory_by_kind(self._device),
            "gpus": gpus[:_MOST_SHOWN],
            "hosts": nodes[:_MOST_SHOWN],
            **self.account(head),
        }

    def account(self, head: Mapping[str, Any]) -> dict[str, Any]:
        """Time, cost and totals up to now, as fields of a report; what remains is by the newest interval."""
        ledger = self.clock.ledger()
        settled = self._settled.to_json()
        return {
            "info": self._info,
            "totals": {"attempt": self._attempt, **vars(self._totals)},
            "goodput_seconds": ledger.to_json()["goodput_seconds"],
            "goodput_ratio": ledger.goodput_ratio,
            "settled_seconds": settled["goodput_seconds"],
            "settled_gpu_seconds": settled["gpu_seconds"],
            "cost": cost_of(
                self._cost, ledger, tokens=head["tokens"], gpus=len(self._places), eta_seconds=self._eta_seconds
            ),
        }

    def close(self, head: Mapping[str, Any]) -> None:
        """Write down the account at an orderly end, so that what follows is known to be a gap."""
        if self._history is not None:
            self._write_performance(head, {})
            ledger = self.clock.ledger()
            # The newest checkpoint holds all training that counts; the lines are about to be uploaded.
            self._settled = replace(
                ledger,
                seconds={**ledger.seconds, Bucket.TRAINING: self._settled.seconds.get(Bucket.TRAINING, 0.0)},
                gpu_seconds={
                    **ledger.gpu_seconds,
                    Bucket.TRAINING: self._settled.gpu_seconds.get(Bucket.TRAINING, 0.0),
                },
            )

    def event(self, head: Mapping[str, Any], kind: str, *, reason: str | None = None, message: str = "") -> None:
        """A line of events.jsonl."""
        if self._history is not None:
            line = {"time": head["time"], "run": head["run"], "attempt": head["attempt"], "kind": kind}
            line |= {"reason": reason, "message": message, "step": head["step"]}
            self._history.write(line, time.monotonic(), name="events")

    def _write_performance(self, head: Mapping[str, Any], figures: Mapping[str, Any]) -> None:
        assert self._history is not None
        line = {
            **_without_position(head),
            "world_size": len(self._places),
            **figures,
            "checkpoint_stall_seconds": round(self._totals.checkpoint_stall_seconds, 3),
            # With its own time, which the next attempt goes on from: on a busy machine the head is seconds older.
            **self.clock.ledger().to_json(),
        }
        self._history.write(line, time.monotonic(), name="performance")

    def _shares(self) -> dict[str, float]:
        """Shares of the stretch; those of a step are the newest sample's, and missing before there is one."""
        self.clock.enter(Bucket.OTHER)
        stretch = self.clock.stretch_seconds
        total = sum(stretch.values()) or 1.0
        shares = {part: stretch.get(bucket, 0.0) / total for bucket, part in _SHARE_OF_BUCKET.items()}
        steps = sum(stretch.get(bucket, 0.0) for bucket in _STEPS) / total
        if self._parts is not None:
            seconds = {part: getattr(self._parts, part) for part in _STEP_PARTS}
            whole = sum(seconds.values()) or 1.0
            shares |= {part: steps * value / whole for part, value in seconds.items()}
        shares["other"] = max(1.0 - steps - sum(shares[part] for part in _SHARE_OF_BUCKET.values()), 0.0)
        return {part: round(share, 6) for part, share in shares.items()}

    def _nodes(self, readings: Sequence[Reading]) -> list[dict[str, Any]]:
        return [
            {"host": place.node, **_known(reading, "node_")}
            for place, reading in zip(self._places, readings, strict=True)
            if place.tells_of_node
        ]

    def _gpus(self, readings: Sequence[Reading]) -> list[dict[str, Any]]:
        return [
            {"rank": rank, "node": place.node, "gpu": place.gpu, "name": place.gpu_name, **_known(reading, "gpu_")}
            for rank, (place, reading) in enumerate(zip(self._places, readings, strict=True))
            if place.gpu is not None
        ]


def rank_seconds(seconds: Sequence[float]) -> dict[str, Any]:
    """Spread of the ranks' own work and who has most of it; {} where a rank has no sample yet."""
    if any(math.isnan(one) for one in seconds):
        return {}
    spread = {"min": min(seconds), "median": statistics.median(seconds), "max": max(seconds)}
    return {"rank_step_seconds": spread, "slowest_rank": max(range(len(seconds)), key=seconds.__getitem__)}


def cost_of(
    cost: CostConfig, ledger: Ledger, *, tokens: int, gpus: int, eta_seconds: float | None
) -> dict[str, Any] | None:
    """Spent, lost to faults, remaining, and per billion tokens; None where no price is known."""
    if cost.price_per_gpu_hour is None:
        return None
    per_second = cost.price_per_gpu_hour / 3600
    spent = sum(ledger.gpu_seconds.values()) * per_second
    return {
        "spent": round(spent, 6),
        "remaining": round(eta_seconds * gpus * per_second, 6) if eta_seconds is not None else None,
        "lost": round(ledger.lost_gpu_seconds * per_second, 6),
        "per_billion_tokens": round(spent / tokens * 1e9, 6) if tokens else None,
        "currency": cost.currency,
    }


def memory_by_kind(device: torch.device) -> dict[str, int]:
    """Bytes of this process: allocated, reserved and all there is on a GPU; resident on a CPU."""
    if device.type == "cuda":
        return {
            "allocated": torch.cuda.memory_allocated(device),
            "reserved": torch.cuda.memory_reserved(device),
            "total": torch.cuda.mem_get_info(device)[1],
        }
    return {"resident": psutil.Process().memory_info().rss}


def _known(reading: Reading, prefix: str) -> dict[str, float]:
    """Figures whose name begins with `prefix`, without it."""
    figures = {name.removeprefix(prefix): value for name, value in vars(reading).items() if name.startswith(prefix)}
    return {name: value for name, value in figures.items() if not math.isnan(value)}


def _without_position(head: Mapping[str, Any]) -> dict[str, Any]:
    return {key: head[key] for key in ("time", "run", "attempt", "step")}
