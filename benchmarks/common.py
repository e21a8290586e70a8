"""What benchmarks share: the machine's description, random token files, processes kept alive, interleaved rounds.

A figure that compares is measured in rounds: every side does the same number of steps, one side after another, in a
process of its own that lives through all rounds. The ratio is taken per round, and the median over rounds is reported,
so that a neighbour's burst of load or a change of clock spoils single rounds and not the result.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import datetime
import gc
import json
import multiprocessing
import os
import platform
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
import torch

Result = TypeVar("Result")
# Of linux/prctl.h.
PR_SET_CHILD_SUBREAPER = 36


def hardware() -> dict[str, Any]:
    """What a figure was measured on, and when."""
    return {
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "gpu": torch.cuda.get_device_name(0) if torch.cuda.is_available() else None,
        "torch": torch.__version__.split("+")[0],
        "python": platform.python_version(),
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
    }


def _cpu_model() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return " ".join(line.split(":", 1)[1].split())
    return platform.processor() or platform.machine()


def write_random_tokens(path: Path, *, vocab_size: int, tokens: int, seed: int = 1) -> None:
    """A nanoGPT-style .bin file, uint16, of independent tokens whose frequencies fall off like those of words.

    A model learns the frequencies within a few dozen steps, so its loss has to go down.
    """
    if vocab_size > 2**16:
        raise ValueError(f"vocab_size {vocab_size} does not fit into uint16")
    frequencies = 1.0 / (np.arange(vocab_size) + 10.0)
    cumulative = np.cumsum(frequencies / frequencies.sum())
    uniform = np.random.default_rng(seed).random(tokens)
    np.minimum(np.searchsorted(cumulative, uniform), vocab_size - 1).astype(np.uint16).tofile(path)


def measure_sizes(
    description: str | None,
    sizes: Mapping[str, Any],
    compare: Callable[..., dict[str, Any]],
    show: Callable[[str, dict[str, Any]], None],
    *,
    bar_ratio: float,
    threads: int,
) -> None:
    """The command line of a benchmark of several sizes: `compare(size, rounds=N)` for each, shown or as one JSON."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=sizes, action="append", help="only this size; may be repeated")
    parser.add_argument("--rounds", type=int, default=15, help="interleaved rounds (default 15)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    arguments = parser.parse_args()
    results = {}
    for name in arguments.size or sizes:
        results[name] = compare(sizes[name], rounds=arguments.rounds)
        if not arguments.json:
            show(name, results[name])
    if arguments.json:
        print(json.dumps({"bar_ratio": bar_ratio, "threads": threads, "hardware": hardware(), "results": results}))


class Trainable(Protocol):
    """One side of a comparison, as it lives in its process."""

    def run(self, steps: int) -> list[float]:
        """Take optimizer steps; returns their losses."""
        ...


@dataclass(frozen=True)
class Timing:
    """One side's share of one round."""

    seconds: float
    losses: list[float]


class Side:
    """A `Trainable` in a process of its own, which idles between calls."""

    def __init__(self, build: Callable[..., Trainable], *arguments: Any, threads: int) -> None:
        """`build(*arguments)` is called there; both have to be picklable."""
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, build, arguments, threads), daemon=True)
        self._process.start()
        theirs.close()

    def run(self, steps: int) -> Timing:
        """Take steps and wait for them."""
        self._connection.send(steps)
        return self._connection.recv()  # type: ignore[no-any-return]  # what comes through a pipe is Any

    def close(self) -> None:
        """End the process."""
        self._connection.close()
        self._process.join(timeout=60)
        if self._process.is_alive():
            self._process.terminate()


def _serve(connection: Connection, build: Callable[..., Trainable], arguments: Sequence[Any], threads: int) -> None:
    # The parent's stdout belongs to its report.
    os.dup2(2, 1)
    torch.set_num_threads(threads)
    side = build(*arguments)
    while True:
        try:
            steps = connection.recv()
        except EOFError:
            # Like a worker after an error: threads of gloo would hold the process up or abort it.
            os._exit(0)
        gc.collect()
        started = time.perf_counter()
        losses = side.run(steps)
        connection.send(Timing(time.perf_counter() - started, losses))


def interleave(sides: Mapping[str, Side], *, rounds: int, steps: int) -> dict[str, list[Timing]]:
    """All sides in turn, `rounds` times; each round begins with another side."""
    names = list(sides)
    timings: dict[str, list[Timing]] = {name: [] for name in names}
    for number in range(rounds):
        first = number % len(names)
        for name in names[first:] + names[:first]:
            timings[name].append(sides[name].run(steps))
    return timings


def processor_seconds(command: Sequence[str]) -> float:
    """Processor seconds that a command and all processes below it took, those that outlive their parents included.

    Linux only: orphans are handed to this process, which must have no children of its own. Ends it with what the
    command wrote to standard error where that fails.
    """
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    before = os.times()
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode:
        sys.exit(f"{result.stderr}{' '.join(command)} ended with {result.returncode}")
    with contextlib.suppress(ChildProcessError):
        while True:
            os.wait()
    after = os.times()
    return after.children_user + after.children_system - before.children_user - before.children_system


def in_own_process(function: Callable[..., Result], *arguments: Any) -> Result:
    """What a function returns in a fresh process, whose memory is then the function's own; all has to be picklable."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def cpu_seconds(pid: int) -> float:
    """Processor seconds of a process, all its threads. Linux only."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def memory_megabytes(pid: int, field: str) -> float:
    """Of a process by a field of /proc: VmRSS, now; VmHWM, the most so far. Linux only."""
    line = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith(field))
    return int(line.split()[1]) * 1024 / 1e6


def replace_between(page: Path, start: str, end: str, content: str) -> None:
    """Put `content` between the two markers of a page; SystemExit where they are not there once."""
    block = f"{start}\n{content}\n{end}"
    text, found = re.subn(f"(?s){start}.*?{end}", lambda _: block, page.read_text(encoding="utf-8"))
    if found != 1:
        sys.exit(f"{page} needs the markers {start} and {end} once")
    page.write_text(text, encoding="utf-8")


def median_ratio(above: Sequence[float], below: Sequence[float]) -> float:
    """Median over rounds of above / below."""
    return statistics.median(a / b for a, b in zip(above, below, strict=True))
