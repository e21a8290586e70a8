"""Tokens per second, MFU and the time that is left, from the steps of one attempt.

Called by the train loop with the clock's reading; nothing here looks at a clock.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Throughput:
    """Figures of one logging interval."""

    tokens_per_second: float
    step_seconds: float
    mfu_ratio: float | None
    """Model FLOP utilization by `6N + 12LdT` per token (PaLM, arXiv:2204.02311, appendix B), of all GPUs together."""
    eta_seconds: float


class ThroughputMeter:
    """Measures the interval since its last reading; time of evaluations is taken off by `pause`."""

    def __init__(
        self, *, tokens_per_step: int, flops_per_token: int, peak_flops_per_second: float | None, world_size: int
    ) -> None:
        self._tokens_per_step = tokens_per_step
        self._flops_per_token = flops_per_token
        self._peak = peak_flops_per_second * world_size if peak_flops_per_second else None
        self._start_seconds: float | None = None
        self._paused_seconds = 0.0
        self._steps = 0

    def start(self, now_seconds: float) -> None:
        """Begin an interval."""
        self._start_seconds, self._paused_seconds, self._steps = now_seconds, 0.0, 0

    def count_step(self) -> None:
        """Note one finished step."""
        self._steps += 1

    def pause(self, seconds: float) -> None:
        """Leave `seconds` of an evaluation out of the interval; what steps wait for saves counts."""
        self._paused_seconds += seconds

    def read(self, now_seconds: float, steps_left: int) -> Throughput:
        """Figures since the last reading; begins the next interval."""
        assert self._start_seconds is not None
        assert self._steps > 0
        seconds = max(now_seconds - self._start_seconds - self._paused_seconds, 1e-9)
        step_seconds = seconds / self._steps
        tokens_per_second = self._tokens_per_step / step_seconds
        mfu = tokens_per_second * self._flops_per_token / self._peak if self._peak else None
        self.start(now_seconds)
        return Throughput(tokens_per_second, step_seconds, mfu, step_seconds * steps_left)
