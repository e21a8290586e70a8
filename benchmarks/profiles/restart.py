"""A worker's way from nothing to its first step of a resumed run, 34M parameters, phase by phase, in one process.

A launcher's fork server has the first phase behind it when a worker is lost; a machine that comes anew has not. The
checkpoint is of a first process of the same run, whose step and save come before the measured way and are not in it.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any
from unittest import mock

from benchmarks.profiles.table import Profile, phases

SIZE = "34m"


def measure() -> Profile:
    """Phases of the second of two processes."""
    with tempfile.TemporaryDirectory() as folder:
        _attempt(folder, 1)
        return phases("a restart of 34M parameters", _attempt(folder, 2))


def _attempt(folder: str, steps: int) -> list[tuple[str, float]]:
    command = [sys.executable, "-m", "benchmarks.profiles.restart", folder, str(steps)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode:
        sys.exit(f"{result.stderr}{' '.join(command)} ended with {result.returncode}")
    return [(what, seconds) for what, seconds in json.loads(result.stdout.splitlines()[-1])]


def main() -> None:
    """One attempt; its phases as JSON."""
    folder, steps = Path(sys.argv[1]), int(sys.argv[2])
    marks = [("the interpreter and this script", time.process_time())]

    def mark(what: str) -> None:
        marks.append((what, time.process_time()))

    import trainer.train.warm  # noqa: F401  # what workers are forked from

    mark("imports of what workers are forked from")
    import torch

    torch.set_num_threads(1)
    from benchmarks.common import write_random_tokens
    from benchmarks.training_sides import SIZES, run_file
    from trainer.config_file import validate_run
    from trainer.elastic.pulse import Pulse
    from trainer.elastic.signals import StopSignals
    from trainer.parallel.world import join_world
    from trainer.train import restore, setup
    from trainer.train.loop import close_run, train
    from trainer.train.monitoring import process_clock

    size = SIZES[SIZE]
    if not (folder / "tokens.bin").exists():
        write_random_tokens(folder / "tokens.bin", vocab_size=size.vocab_size, tokens=500_000)
    mark("benchmark")
    raw = run_file(size, folder) | {"steps": steps}
    config = validate_run(raw, source="benchmark")
    mark("the run file")
    world = join_world(timeout_seconds=60)
    mark("joining the world")
    parts = {
        "building the model": (setup, "build_step"),
        "reading the checkpoint": (restore, "load_checkpoint"),
    }
    spent = dict.fromkeys(parts, 0.0)
    with contextlib.ExitStack() as stack, contextlib.redirect_stdout(sys.stderr):
        for what, (module, name) in parts.items():
            stack.enter_context(mock.patch.object(module, name, _timed(getattr(module, name), spent, what)))
        run = setup.set_up(config, world, StopSignals(), Pulse(), process_clock())
        assert run is not None
        mark("all else of the set-up")
        train(run)
        mark("the step and its save")
        close_run(run)
    found = {what: after - before for (_, before), (what, after) in pairwise(marks)}
    found["all else of the set-up"] -= spent["building the model"] + spent["reading the checkpoint"]
    del found["benchmark"]
    print(json.dumps([*found.items(), *spent.items()]))


def _timed(function: Callable[..., Any], spent: dict[str, float], what: str) -> Callable[..., Any]:
    def timed(*arguments: Any, **settings: Any) -> Any:
        started = time.process_time()
        try:
            return function(*arguments, **settings)
        finally:
            spent[what] += time.process_time() - started

    return timed


if __name__ == "__main__":
    main()
