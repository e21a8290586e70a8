"""How workers' ends become one exit code and one explanation; the launcher over small real processes."""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.elastic.launcher import Launcher, Report, exit_code, explain, read_reports, write_report

KILLED = -signal.SIGKILL
TERMINATED = -signal.SIGTERM


@pytest.mark.parametrize(
    ("codes", "stopped", "expected"),
    [
        ([0, 0], False, 0),
        ([75, 75], True, 75),
        ([75, 0], True, 75),  # the stop came with the last step
        ([75, TERMINATED], True, 75),  # one had not begun when it was told to stop
        ([TERMINATED, TERMINATED], True, 75),
        ([TERMINATED, 0], False, 1),  # somebody else ended it
        ([75, KILLED], True, 1),  # one did not save within its grace period
        ([1, 75], True, 1),
        ([0, 1], False, 1),
        ([KILLED, KILLED], False, 1),
        ([2, 2], False, 2),
        ([KILLED, 2], False, 2),  # killed because the other was refused
        ([1, 2], False, 2),
    ],
)
def test_exit_code(codes: list[int], stopped: bool, expected: int) -> None:
    assert exit_code(codes, stopped=stopped) == expected


@given(st.lists(st.sampled_from([0, 1, 2, 75, KILLED, TERMINATED]), min_size=1), st.booleans(), st.randoms())
def test_exit_code_is_one_of_four_and_knows_no_order(codes: list[int], stopped: bool, random: Random) -> None:
    code = exit_code(codes, stopped=stopped)
    assert code in (0, 1, 2, 75)
    random.shuffle(codes)
    assert exit_code(codes, stopped=stopped) == code


def test_explanation_names_the_cause() -> None:
    lost_peer = Report(0, 1, "Connection closed by peer", time_ns=30)
    first = Report(2, 1, "out of range", time_ns=20)
    refused = Report(1, 2, "error: token id 600", time_ns=40)
    assert explain({0: 1, 2: 1}, [lost_peer, first], stopped=False) == ["out of range"]
    assert explain({0: 1, 1: 2}, [lost_peer, refused], stopped=False) == ["error: token id 600"]
    lines = explain({0: 1, 1: KILLED}, [lost_peer], stopped=False)
    assert lines[0].startswith("error: rank 1 was ended by SIGKILL (the kernel does that when memory runs out)")
    assert lines[1] == "Connection closed by peer"
    assert explain({0: TERMINATED, 1: 75}, [], stopped=True) == []


def test_reports_survive_the_way_through_files(tmp_path: Path) -> None:
    written = [Report(rank, 2, f"rank {rank}\nsays ü", time_ns=rank) for rank in (0, 11)]
    for report in written:
        write_report(tmp_path, report)
    assert sorted(read_reports(tmp_path), key=lambda report: report.rank) == written


class Signals:
    """What a launcher asks about its signals: a stop that is wished for once `after` ranks have said they are ready."""

    def __init__(self, folder: Path, *, after: int, insisted: bool = False) -> None:
        self.folder = folder
        self._after = after
        self._insisted = insisted

    @property
    def requested(self) -> bool:
        return len(list(self.folder.iterdir())) >= self._after

    @property
    def insisted(self) -> bool:
        return self._insisted and self.requested

    def arm(self) -> None:
        pass


NEVER = 99


def launch(folder: Path, code: str, *, stop_after: int = NEVER, insisted: bool = False, grace: float = 30) -> int:
    """Run two ranks of a Python program that knows `rank` and may say `ready()`."""
    program = (
        "import os, pathlib, signal, sys, time\n"
        "rank = int(os.environ['RANK'])\n"
        f"ready = pathlib.Path({str(folder)!r}, str(rank)).touch\n"
        f"{code}"
    )
    signals = Signals(folder, after=stop_after, insisted=insisted)
    command = [sys.executable, "-c", program]
    return Launcher(command, nproc=2, grace_seconds=grace, signals=signals).run()


def test_ranks_get_their_places(tmp_path: Path) -> None:
    code = "assert os.environ['WORLD_SIZE'] == os.environ['LOCAL_WORLD_SIZE'] == '2'; ready()"
    assert launch(tmp_path, code) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0", "1"]


def test_first_failure_ends_the_others(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert launch(tmp_path, "os.kill(os.getpid(), 9) if rank else time.sleep(60)") == 1
    printed = capfd.readouterr().err
    assert "error: rank 1 was ended by SIGKILL" in printed
    assert "rank 0" not in printed  # that one the launcher ended itself


def test_stop_is_passed_on(tmp_path: Path) -> None:
    saves = "signal.signal(signal.SIGTERM, lambda *_: sys.exit(75)); ready(); time.sleep(60)"
    assert launch(tmp_path, saves, stop_after=2) == 75


def test_stop_before_a_worker_has_handlers(tmp_path: Path) -> None:
    assert launch(tmp_path, "time.sleep(60)", stop_after=0) == 75


STUBBORN = "signal.signal(signal.SIGTERM, signal.SIG_IGN); ready(); time.sleep(60)"


def test_who_does_not_stop_is_killed_after_the_grace_period(tmp_path: Path) -> None:
    assert launch(tmp_path, STUBBORN, stop_after=2, grace=0.2) == 1


def test_insisting_ends_all_at_once(tmp_path: Path) -> None:
    assert launch(tmp_path, STUBBORN, stop_after=2, insisted=True) == 1
