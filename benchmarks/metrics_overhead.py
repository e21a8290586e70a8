"""What measuring a run adds to its steps: the account of time, readings of the machine, lines, reports, profiled steps.

    python -m benchmarks.metrics_overhead [--json]

One run of a small GPT-2 takes turns of ten steps without and with everything that the train loop's monitor does, a log
line included. A profiled step is timed on its own and spread over the time between two of them. Bar: both
together below 1% of the time of a step.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import threading
import time
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

import torch

from benchmarks.common import hardware, median_ratio, write_random_tokens
from benchmarks.product import Product
from trainer.elastic.pulse import Pulse, PulseReader
from trainer.metrics.goodput import Bucket
from trainer.metrics.step_sample import SampleClock
from trainer.train.step import Flags, train_step

BAR_RATIO = 0.01
TURNS = 41
LOG_STEPS = 10  # of one turn, which has one log line
SAMPLES = 9
VOCABULARY = 8192
RUN: dict[str, Any] = {
    "name": "metrics-overhead",
    "model": {"family": "gpt2", "vocab_size": VOCABULARY, "context": 256, "layers": 4, "width": 128, "heads": 4},
    "sequence_length": 256,
    "batch": {"sequences": 4, "micro_sequences": 4},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    as_json = parser.parse_args().json
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(prefix="gpt-run-bench-") as folder:
        result = measure(Path(folder)) | {"bar_ratio": BAR_RATIO, "hardware": hardware()}
    line = (
        f"{result['ratio']:.2%} of a step of {result['step_seconds'] * 1e3:.0f} ms: "
        f"{result['always_ratio']:.2%} always, "
        f"{result['profile_ratio']:.2%} for a profiled step every {result['profile_every_seconds']:.0f} s that takes "
        f"{result['profile_seconds'] * 1e3:.0f} ms longer (bar {BAR_RATIO:.0%})"
    )
    print(json.dumps(result) if as_json else line)


def measure(folder: Path) -> dict[str, Any]:
    """Seconds and ratios, medians over turns."""
    write_random_tokens(folder / "train.bin", vocab_size=VOCABULARY, tokens=2_000_000)
    store = {"checkpoint": {"store": str(folder / "runs")}}
    turns = Turns(Product({**RUN, **store, "data": {"train": str(folder / "train.bin")}}))
    turns.take(LOG_STEPS, measured=True)  # warm-up
    plain: list[float] = []
    measured: list[float] = []
    for number in range(TURNS):
        for with_metrics in (False, True) if number % 2 else (True, False):
            (measured if with_metrics else plain).append(turns.take(LOG_STEPS, measured=with_metrics))
    step_seconds = median(plain) / LOG_STEPS
    profiled = [turns.take(1, measured=True, profiled=True) for _ in range(SAMPLES)]
    profile_seconds = max(median(profiled) - step_seconds, 0.0)
    clock = SampleClock(turns.product.live.config.log.profile_seconds)
    every_seconds = clock.pause_seconds(profile_seconds)
    always = median_ratio(measured, plain) - 1
    turns.product.close()
    return {
        "step_seconds": step_seconds,
        "always_ratio": always,
        "profile_seconds": profile_seconds,
        "profile_every_seconds": every_seconds,
        "profile_ratio": profile_seconds / every_seconds,
        "ratio": always + profile_seconds / every_seconds,
    }


class Turns:
    """A run whose steps are taken with and without its monitor; a launcher's end of the pipe is read meanwhile."""

    def __init__(self, product: Product) -> None:
        self.product = product
        told, telling = os.pipe()
        self._pulse, self._reader = Pulse(telling), PulseReader(told)
        threading.Thread(target=self._listen, daemon=True).start()

    def take(self, steps: int, *, measured: bool, profiled: bool = False) -> float:
        """Seconds that the steps took."""
        started = time.perf_counter()
        for _ in range(steps):
            self._measured_step(profiled) if measured else self._plain_step()
        return time.perf_counter() - started

    def _plain_step(self) -> None:
        run = self.product.live
        train_step(run.step, next(run.loader).tokens, Flags)
        run.progress.step += 1

    def _measured_step(self, profiled: bool) -> None:
        run = self.product.live
        started = time.monotonic()
        run.monitor.clock.enter(Bucket.DATA_LOADING)
        batch = next(run.loader)
        with run.monitor.step_begins(profiled=profiled) as sample:
            train_step(run.step, batch.tokens, lambda: Flags(profile=run.monitor.sample_due()), sample)
        run.monitor.step_ended(time.monotonic() - started, tokens=batch.tokens.size, finite=True)
        run.progress.step += 1
        if run.progress.step % LOG_STEPS == 0:
            head: dict[str, Any] = {"time": datetime.now(UTC).isoformat(timespec="milliseconds")}
            head |= {"run": run.config.name, "attempt": "a0001", "step": run.progress.step, "tokens": 1}
            self._pulse.tell(**run.monitor.interval(head, 1.0))

    def _listen(self) -> None:
        while True:
            self._reader.read()
            time.sleep(0.05)


if __name__ == "__main__":
    main()
