"""Runs of a sweep on this machine: when one that trains is stopped."""

from __future__ import annotations

import math
import signal
import subprocess
from pathlib import Path

import pytest

from trainer.storage_errors import StoreUnavailable
from trainer.sweep.local import LocalRunner, _Child
from trainer.sweep.points import Point, Request, make_sweep


class NoStop:
    """Nobody wants to stop."""

    requested = insisted = False

    def arm(self) -> None: ...


def test_a_store_that_is_away_for_a_moment_ends_no_run(tmp_path: Path) -> None:
    (point,) = make_sweep(Request("tiny-gpt2", ["seed=1"])).points
    answers: list[Exception | bool] = [StoreUnavailable("away"), TimeoutError("away"), True, ValueError("a bug")]

    def enough(_: Point) -> bool:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    runner = LocalRunner(tmp_path, parallel=1, nproc=1, signals=NoStop(), say=lambda _: None)
    # In place of a run: what is looked at is who gets a signal when.
    with subprocess.Popen(["sleep", "60"]) as popen:
        for stops in (0, 0, 1):
            child = _Child(point, popen, looked_at=-math.inf, told_at=math.inf)
            runner._attend(child, enough)
            assert child.stops == stops
        assert popen.wait() == -signal.SIGINT
        with pytest.raises(ValueError, match="a bug"):
            runner._attend(_Child(point, popen, looked_at=-math.inf, told_at=math.inf), enough)
