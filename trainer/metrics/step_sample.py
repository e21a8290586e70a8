"""One step in a while under torch's profiler: what its parts take, and how much of it is waiting for other ranks.

The train loop profiles a step of all ranks together when rank 0's `SampleClock` says so. Communication that overlaps
with computation costs nothing, so what counts is the part of it during which nothing is computed ("exposed"). On a GPU
that is read off the device's own timeline; on a CPU off the main thread's operators.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import torch

# Kineto writes of its start and stop, and that there is no GPU, to stderr; it reads this at its first use.
_QUIET = "99"
# A profiled step takes longer; so much of a run may go into that.
_OVERHEAD_RATIO = 0.003
# The first steps compile and warm up.
_FIRST_STEPS = 3

Interval = tuple[int, int]
"""Start and end, nanoseconds."""


class SampleClock:
    """When a step is to be profiled: every so many seconds, and more seldom where that costs too much."""

    def __init__(self, every_seconds: float) -> None:
        """every_seconds: 0 for never."""
        self._every_seconds = every_seconds
        self._due_at = 0.0
        self._steps = 0

    def due(self, now: float) -> bool:
        """Asked once a step, with a monotonic clock's reading."""
        self._steps += 1
        return self._every_seconds > 0 and self._steps > _FIRST_STEPS and now >= self._due_at

    def sampled(self, now: float, cost_seconds: float) -> None:
        """One was taken, and took so much longer than a step does otherwise."""
        self._due_at = now + self.pause_seconds(cost_seconds)

    def pause_seconds(self, cost_seconds: float) -> float:
        """From a sample of this cost to the next."""
        return max(self._every_seconds, cost_seconds / _OVERHEAD_RATIO)


@dataclass(frozen=True)
class StepParts:
    """Seconds of one step on one rank."""

    forward_backward: float
    """Without `communication`."""
    communication: float
    """Exposed: nothing was computed meanwhile."""
    optimizer: float

    @property
    def own_seconds(self) -> float:
        """This rank's own work, without waiting for others."""
        return self.forward_backward + self.optimizer


class StepSample(AbstractContextManager["StepSample"]):
    """Profiles what is done inside; `forward_backward_ends` is called in between, `parts` read after."""

    def __init__(self, device: torch.device) -> None:
        os.environ.setdefault("KINETO_LOG_LEVEL", _QUIET)
        self._device = device
        on_gpu = device.type == "cuda"
        # Not torch.profiler's: so that it does not warn, it has to be told to build events of its own from Kineto's.
        self._profile = torch.autograd.profiler.profile(
            use_cpu=not on_gpu, use_device="cuda" if on_gpu else None, use_kineto=True
        )
        self._marks: list[float] = []
        self.parts: StepParts | None = None
        self.cost_seconds = 0.0
        """What starting, stopping and reading the profiler took."""

    def __enter__(self) -> StepSample:
        started = time.perf_counter()
        self._profile.__enter__()
        self._mark()
        self.cost_seconds = self._marks[0] - started
        return self

    def forward_backward_ends(self) -> None:
        """Gradients and loss of the step are there."""
        self._mark()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._mark()
        self._profile.__exit__(kind, error, trace)
        if error is None:
            first, middle, last = self._marks
            # Kineto's own events: torch's would be built one by one in Python, seconds for a large step.
            kineto = self._profile.kineto_results
            assert kineto is not None
            exposed = min(exposed_seconds(kineto.events(), on_gpu=self._device.type == "cuda"), middle - first)
            self.parts = StepParts(middle - first - exposed, exposed, last - middle)
        self.cost_seconds += time.perf_counter() - self._marks[-1]

    def _mark(self) -> None:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        self._marks.append(time.perf_counter())


def exposed_seconds(events: Iterable[Any], *, on_gpu: bool) -> float:
    """Seconds of communication during which nothing was computed; events: Kineto's, of one step."""
    return (_gpu_exposed_ns(events) if on_gpu else _cpu_exposed_ns(list(events))) / 1e9


def _gpu_exposed_ns(events: Iterable[Any]) -> int:
    """NCCL's kernels, without what other kernels and copies cover."""
    communication: list[Interval] = []
    computation: list[Interval] = []
    for event in events:
        kind = communication if event.name().startswith("nccl") else computation
        kind.append((event.start_ns(), event.start_ns() + event.duration_ns()))
    return _uncovered_ns(communication, computation)


def _cpu_exposed_ns(events: list[Any]) -> int:
    """From each collective's call to gloo's end of it, without what the calling thread's operators cover.

    Gloo's own events begin only when its thread gets to them; the wait for a slow peer lies before. The calling thread
    is that of the collectives' calls, and its operators are those of the tensor library (`aten`) and of FSDP's copies.
    """
    calls = sorted((e for e in events if e.name().startswith("c10d::")), key=lambda event: event.start_ns())
    works = sorted((e for e in events if e.name().startswith("gloo:")), key=lambda event: event.start_ns())
    threads = {call.start_thread_id() for call in calls}
    communication = [
        (call.start_ns(), max(work.start_ns() + work.duration_ns(), call.start_ns()))
        for call, work in zip(calls, works, strict=False)
    ]
    computation = [
        (event.start_ns(), event.start_ns() + event.duration_ns())
        for event in events
        if event.name().startswith(("aten::", "fsdp::")) and event.start_thread_id() in threads
    ]
    return _uncovered_ns(communication, computation)


def _uncovered_ns(spans: list[Interval], covers: list[Interval]) -> int:
    """Length of the union of `spans` without that of `covers`."""
    return _length_ns(spans + covers) - _length_ns(covers)


def _length_ns(intervals: list[Interval]) -> int:
    """Length of the union."""
    total, end = 0, 0
    for start, stop in sorted(intervals):
        if stop > end:
            total += stop - max(start, end)
            end = stop
    return total
