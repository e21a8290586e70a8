"""Signals of a process of its own, at each stage of its life."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

PROGRAM = """
import signal, time
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # whoever runs the tests may have it ignored, as nohup does
from trainer.elastic.signals import StopSignals
signals = StopSignals(quits={quits})
if {armed}:
    signals.arm()
print("ready", flush=True)
while not signals.requested:
    time.sleep(0.01)
print("requested", flush=True)
while not signals.insisted:
    time.sleep(0.01)
"""


@contextlib.contextmanager
def start(*, armed: bool, quits: bool = True, before: str = "") -> Iterator[subprocess.Popen[str]]:
    """The program, as far as its first line."""
    program = before + PROGRAM.format(armed=armed, quits=quits)
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    try:
        assert line(process) == "ready"
        yield process
    finally:
        process.kill()
        process.communicate()


def line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_before_arming_a_signal_ends_the_process(number: int) -> None:
    with start(armed=False) as process:
        process.send_signal(number)
        assert process.wait() == 75


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_an_armed_process_raises_its_flag_and_lives(number: int) -> None:
    with start(armed=True) as process:
        process.send_signal(number)
        assert line(process) == "requested"
        process.send_signal(number)  # asking again is not insisting
        while process.poll() is None:
            process.send_signal(signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(0.05)  # signals that come too close count as one
        assert process.returncode == 1


def test_second_ctrl_c_ends_an_armed_process() -> None:
    with start(armed=True) as process:
        process.send_signal(signal.SIGINT)
        assert line(process) == "requested"
        process.send_signal(signal.SIGINT)
        assert process.wait() == 1


def test_a_launcher_outlives_the_second_ctrl_c() -> None:
    with start(armed=True, quits=False) as process:
        process.send_signal(signal.SIGINT)
        assert line(process) == "requested"
        process.send_signal(signal.SIGINT)
        assert process.wait() == 0


def test_who_ignores_the_end_of_the_terminal_goes_on_doing_so() -> None:
    with start(armed=False, before="import signal; signal.signal(signal.SIGHUP, signal.SIG_IGN)") as process:
        process.send_signal(signal.SIGHUP)
        process.send_signal(signal.SIGTERM)
        assert process.wait() == 75


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_to_a_forked_child_is_the_childs(number: signal.Signals) -> None:
    """As of a pool of processes that ends its own."""
    parent = f"""
import os, signal, time
from trainer.elastic.signals import StopSignals
signals = StopSignals()
signals.arm()
child = os.fork()
if child == 0:
    time.sleep(5)
    os._exit(0)
os.kill(child, {int(number)})
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
time.sleep(0.5)
print(signals.requested)
os.kill(os.getpid(), {int(number)})
while not signals.requested:
    time.sleep(0.01)
"""
    result = subprocess.run([sys.executable, "-c", parent], capture_output=True, text=True, timeout=30, check=True)
    assert result.stdout.split() == [str(-number), "False"]
