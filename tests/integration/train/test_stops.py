"""Ctrl+C, SIGTERM and SIGKILL, as a terminal, an orchestrator and the kernel send them to whole runs."""

from __future__ import annotations

import os
import re
import signal
import threading
from pathlib import Path

import psutil

from tests.integration.servers import free_port
from tests.integration.train.conftest import MakeTraining, Warm
from tests.integration.training import WAIT_SECONDS, Training, wait_until, wait_until_gone

# Steps of several seconds: a stop is still under way when the next signal comes.
SLOW = {"batch": {"sequences": 400, "micro_sequences": 1}}
# Gives a command the terminal on its standard input, as a shell does; then becomes it.
IN_TERMINAL = (
    "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); "
    "os.execv(sys.executable, [sys.executable, *sys.argv[1:]])"
)


def test_ctrl_c_in_a_terminal_saves_and_a_bar_is_drawn(make_training: MakeTraining) -> None:
    training = make_training(batch={"micro_sequences": 1}, steps=500)
    terminal, theirs = os.openpty()
    process = training.start("-m", "trainer", "train", "run.yaml", program=("-c", IN_TERMINAL), terminal=theirs)
    screen = Screen(terminal)
    screen.wait_for(r"step +6/500")
    os.write(terminal, b"\x03")
    assert process.wait() == 75, screen.text
    screen.close()

    last = max(training.steps())
    assert training.checkpoints() == [f"step-{last:08d}-a0001"]
    assert "━" in screen.text
    assert f"stopped as asked at step {last} of 500" in screen.text
    # The cursor, which the bar hides, is back.
    assert screen.text.rfind("\x1b[?25h") > screen.text.rfind("\x1b[?25l") >= 0


def test_second_ctrl_c_quits_at_once_and_leaves_nothing_running(make_training: MakeTraining) -> None:
    training = make_training(**SLOW)
    process = training.train(nproc=2)
    process.wait_for("^step +1/")
    workers = process.workers()
    os.killpg(process.popen.pid, signal.SIGINT)
    process.wait_for("^stopping")
    assert all(worker.is_running() for worker in workers)
    os.killpg(process.popen.pid, signal.SIGINT)
    assert process.wait() == 1, process.text
    assert process.text.endswith("error: a second Ctrl+C: ended without a save\n")
    assert len(workers) == 2
    wait_until_gone(workers)
    assert training.checkpoints() == []


def test_sigterm_before_training_ends_at_once(training: Training, warm: Warm) -> None:
    launcher = training.train(nproc=2)
    wait_until(lambda: handles(launcher.popen.pid, signal.SIGTERM))
    launcher.popen.terminate()
    assert launcher.wait() == 75, launcher.text

    launcher = training.train(nproc=2)
    wait_until(lambda: len(launcher.workers()) == 2)
    workers = launcher.workers()
    launcher.popen.terminate()
    assert launcher.wait() == 75, launcher.text
    wait_until_gone(workers)

    # The other rank never comes: this one waits inside init_process_group.
    place = {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    alone = warm.start(training, "worker", "run.yaml", environment=place)
    wait_until(lambda: listens(alone.pid))
    os.kill(alone.pid, signal.SIGTERM)
    assert alone.wait() == 75, alone.text
    assert not training.run.exists()


def test_sigterm_in_the_first_step_does_not_wait_for_it(make_training: MakeTraining) -> None:
    # A first step may compile for minutes.
    training = make_training(**SLOW)
    process = training.train(nproc=2)
    process.wait_for("^starting at step 0")
    process.popen.terminate()
    assert process.wait() == 75, process.text
    assert training.steps() == {}
    assert training.checkpoints() == []


class Screen:
    """What a terminal was sent; a terminal that nobody reads stops the program that writes to it."""

    def __init__(self, terminal: int) -> None:
        self._terminal = terminal
        self._received = bytearray()
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    @property
    def text(self) -> str:
        return self._received.decode(errors="replace")

    def wait_for(self, pattern: str) -> None:
        wait_until(lambda: re.search(pattern, self.text) is not None)

    def close(self) -> None:
        """Read to the end."""
        self._thread.join(WAIT_SECONDS)
        os.close(self._terminal)

    def _read(self) -> None:
        while True:
            try:
                data = os.read(self._terminal, 4096)
            except OSError:  # the last program that held the terminal has ended
                return
            self._received += data


def handles(pid: int, number: int) -> bool:
    """Whether the process has a handler for the signal."""
    found = re.search(r"SigCgt:\s*(\w+)", Path(f"/proc/{pid}/status").read_text())
    assert found is not None
    return bool(int(found[1], 16) & (1 << (number - 1)))


def listens(pid: int) -> bool:
    """Whether the process has a listening socket: rank 0 then waits for the others."""
    return any(connection.status == psutil.CONN_LISTEN for connection in psutil.Process(pid).net_connections())
