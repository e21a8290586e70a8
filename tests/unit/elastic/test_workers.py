"""How the ends of workers become one outcome and one explanation; a launcher's workers as small real processes."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.elastic.forks import Forks
from trainer.elastic.reasons import Reason
from trainer.elastic.rounds import End
from trainer.elastic.workers import Outcome, Report, Workers, explain, judge, read_reports, write_report

KILLED = -signal.SIGKILL
TERMINATED = -signal.SIGTERM


def report(rank: int, code: int = 1, message: str = "wrong", *, at: int = 0, reason: Reason | None = None) -> Report:
    return Report(rank, code, reason or Reason.WORKER_FAILED, message, time_ns=at)


@pytest.mark.parametrize(
    ("codes", "killed", "stopped", "expected", "exit_code"),
    [
        ([0, 0], [], False, End.FINISHED, 0),
        ([75, 75], [], True, End.PREEMPTED, 75),
        ([75, 75], [], False, End.PREEMPTED, 75),  # another node was told to stop
        ([75, 0], [], True, End.PREEMPTED, 75),  # the stop came with the last step
        ([75, TERMINATED], [], True, End.PREEMPTED, 75),  # one had not begun when it was told to stop
        ([TERMINATED, TERMINATED], [], True, End.PREEMPTED, 75),
        ([TERMINATED, 0], [], False, End.FAILED, 1),  # somebody else ended it
        ([75, KILLED], [1], True, End.STOPPED, 1),  # one did not save within its grace period
        ([75, KILLED], [], True, End.FAILED, 1),
        ([1, 75], [], True, End.FAILED, 1),
        ([0, 1], [], False, End.FAILED, 1),
        ([KILLED, 1], [], False, End.FAILED, 1),
        ([2, 2], [], False, End.INVALID, 2),
        ([KILLED, 2], [0], False, End.INVALID, 2),
        ([1, 2], [], False, End.INVALID, 2),
    ],
)
def test_outcome(codes: list[int], killed: list[int], stopped: bool, expected: End, exit_code: int) -> None:
    told = Reason.PREEMPTED if stopped else None
    outcome = judge(dict(enumerate(codes)), killed, [], told_to_stop=told)
    assert (outcome.end, outcome.exit_code) == (expected, exit_code)


def test_outcome_of_what_the_launcher_did_itself() -> None:
    gone = (Reason.NODE_LOST, "a peer is gone")
    assert judge({0: KILLED}, [0], [], stopped_by=gone) == Outcome(End.STOPPED, 1, *gone)
    assert judge({0: KILLED}, [0], [], hung="too long") == Outcome(End.FAILED, 1, Reason.HUNG, "too long")
    # It had ended by itself before it could be killed.
    assert judge({0: 75}, [], [], stopped_by=gone).end is End.PREEMPTED
    assert judge({0: 2}, [], [report(0, 2)], stopped_by=gone).end is End.INVALID


def test_the_first_report_gives_the_reason() -> None:
    reports = [report(0, at=2), report(1, at=1, reason=Reason.OUT_OF_MEMORY)]
    assert judge({0: 1, 1: 1}, [], reports).reason is Reason.OUT_OF_MEMORY
    assert judge({0: 1, 1: KILLED}, [], reports[:1]).reason is Reason.WORKER_FAILED
    fenced = judge({0: 1, 1: 1}, [], [report(0, at=1), report(1, at=2, reason=Reason.FENCED)])
    assert fenced.end is End.FENCED


@given(
    st.lists(st.sampled_from([0, 1, 2, 75, KILLED, TERMINATED]), min_size=1),
    st.sampled_from([None, Reason.PREEMPTED, Reason.SCALED]),
    st.randoms(),
)
def test_outcome_knows_no_order(codes: list[int], told: Reason | None, random: Random) -> None:
    outcome = judge(dict(enumerate(codes)), [], [], told_to_stop=told)
    assert outcome.exit_code in (0, 1, 2, 75)
    random.shuffle(codes)
    assert judge(dict(enumerate(codes)), [], [], told_to_stop=told).end is outcome.end


def test_explanation_names_the_cause() -> None:
    lost_peer = report(0, message="Connection closed by peer", at=30)
    first = report(2, message="out of range", at=20)
    refused = report(1, 2, "error: token id 600", at=40)
    assert explain({0: 1, 2: 1}, [lost_peer, first], stopped=False) == ["out of range"]
    assert explain({0: 1, 1: 2}, [lost_peer, refused], stopped=False) == ["error: token id 600"]
    lines = explain({0: 1, 1: KILLED}, [lost_peer], stopped=False)
    assert lines[0].startswith("error: rank 1 was ended by SIGKILL (the kernel does that when memory runs out)")
    assert lines[1] == "Connection closed by peer"
    assert explain({0: TERMINATED, 1: 75}, [], stopped=True) == []


def test_reports_survive_the_way_through_files(tmp_path: Path) -> None:
    written = [report(rank, 2, f"rank {rank}\nsays ü", at=rank) for rank in (0, 11)]
    for one in written:
        write_report(tmp_path, one)
    assert sorted(read_reports(tmp_path), key=lambda one: one.rank) == written


def test_a_report_is_written_though_its_folder_was_tidied_away(tmp_path: Path) -> None:
    written = report(0, 2, "fenced", at=1)
    write_report(tmp_path / "gone", written)
    assert read_reports(tmp_path / "gone") == [written]


Start = Callable[[str], Workers]


@pytest.fixture(scope="module")
def forks() -> Forks:
    return Forks("trainer.elastic.pulse", processes=2)


@pytest.fixture
def start(forks: Forks, tmp_path: Path) -> Iterator[Start]:
    """Start two ranks of a piece of Python."""
    started: list[Workers] = []

    def two(code: str) -> Workers:
        places = [{"RANK": str(rank)} for rank in (3, 4)]
        started.append(Workers(forks, "tests.unit.elastic.ranks:work", (str(tmp_path), code), places))
        return started[-1]

    yield two
    for workers in started:
        workers.close()


def end_of(workers: Workers) -> Outcome:
    deadline = time.monotonic() + 60
    while (outcome := workers.poll()) is None:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return outcome


def wait_for(folder: Path, *names: str) -> None:
    deadline = time.monotonic() + 60
    while {path.name for path in folder.iterdir()} < set(names):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_ranks_get_their_places_and_are_heard(start: Start, tmp_path: Path) -> None:
    workers = start("ready(); pulse.tell(step=rank)")
    assert end_of(workers).end is End.FINISHED
    assert sorted(path.name for path in tmp_path.iterdir()) == ["3", "4"]
    assert workers.pulse() == [(0, {"step": 3}), (1, {"step": 4})]


def test_first_failure_ends_the_others(start: Start) -> None:
    outcome = end_of(start("os.kill(os.getpid(), 9) if rank == 4 else time.sleep(60)"))
    assert outcome.end is End.FAILED
    assert "error: rank 4 was ended by SIGKILL" in outcome.message
    assert "rank 3" not in outcome.message  # that one the launcher ended itself


def test_stop_is_passed_on(start: Start, tmp_path: Path) -> None:
    workers = start("signal.signal(signal.SIGTERM, lambda *_: sys.exit(75)); ready(); time.sleep(60)")
    wait_for(tmp_path, "3", "4")
    workers.stop(Reason.SCALED, within_seconds=60)
    assert end_of(workers) == Outcome(End.PREEMPTED, 75, Reason.SCALED)


def test_stop_before_a_worker_has_handlers(start: Start) -> None:
    workers = start("time.sleep(60)")
    workers.stop(Reason.PREEMPTED, within_seconds=60)
    assert end_of(workers).end is End.PREEMPTED


STUBBORN = "signal.signal(signal.SIGTERM, signal.SIG_IGN); ready(); time.sleep(60)"


def test_stacks_of_a_worker_that_ends_just_now_are_not_asked_for(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(*_: object) -> None:
        raise ProcessLookupError  # in place of the moment between a worker's end and its sentinel's

    workers = start("time.sleep(60)")
    with monkeypatch.context() as patched:
        patched.setattr(os, "kill", gone)
        workers.dump_stacks()
    workers.end_now(Reason.NODE_LOST, "over")
    assert end_of(workers).end is End.STOPPED


def test_who_does_not_stop_is_killed_after_the_grace_period(start: Start, tmp_path: Path) -> None:
    workers = start(STUBBORN)
    wait_for(tmp_path, "3", "4")
    workers.stop(Reason.PREEMPTED, within_seconds=0.2)
    outcome = end_of(workers)
    assert outcome.end is End.STOPPED
    assert "elastic.grace_seconds" in outcome.message


def test_workers_are_ended_at_once_when_a_peer_is_gone(start: Start, tmp_path: Path) -> None:
    workers = start(STUBBORN)
    wait_for(tmp_path, "3", "4")
    workers.end_now(Reason.NODE_LOST, "a peer is gone")
    assert end_of(workers) == Outcome(End.STOPPED, 1, Reason.NODE_LOST, "a peer is gone")
    assert workers.any_killed
