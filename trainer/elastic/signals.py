"""Signals of a launcher and of its workers: a wish to stop that is asked about, never an interruption of a step.

Installed before anything else by both commands: a launcher may be PID 1, for which the kernel drops signals that have
no handler. Until `arm` was called nothing can be lost, so a signal ends the process at once; afterwards it raises a
flag, which the train loop shares with all ranks and the launcher passes on.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading

from trainer.errors import EXIT_FAILED, EXIT_PREEMPTED

LAUNCHER_PID_VARIABLE = "GPTRUN_LAUNCHER_PID"
_PR_SET_PDEATHSIG = 1
_PR_SET_NAME = 15
# SIGHUP: the terminal was closed.
STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class StopFlag:
    """A wish to stop, raised by whoever has a say; the train loop asks for it once a step."""

    def __init__(self) -> None:
        self.requested = False
        self.armed = False
        """Whether there is something to lose: training has begun."""

    def arm(self) -> None:
        """From now on a stop is a matter of a save."""
        self.armed = True


class StopSignals(StopFlag):
    """SIGTERM, Ctrl+C and the end of the terminal as a flag; before `arm` they end the process."""

    def __init__(self, *, quits: bool = True) -> None:
        """quits: whether a second Ctrl+C ends this process; a launcher looks at `insisted` and ends its workers."""
        super().__init__()
        self.insisted = False
        """A second Ctrl+C came: quit without saving."""
        self._quits = quits
        self._interrupts = 0
        # A Python handler waits for the main thread, which may wait in C for other ranks; a thread that reads what the
        # C handler writes does not.
        self._wakeups, write = os.pipe()
        os.set_blocking(write, False)
        signal.set_wakeup_fd(write, warn_on_full_buffer=False)
        self._leave_children_alone()
        for number in STOP_SIGNALS:
            # A program started with nohup goes on without its terminal.
            if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
                signal.signal(number, lambda *_: None)
        threading.Thread(target=self._watch, name="signals", daemon=True).start()

    @staticmethod
    def _leave_children_alone() -> None:
        """Give forked children the handlers of before.

        With ours they could not be ended, and as they have the same pipe a signal to one would be heard as one to us.
        """
        earlier = {number: signal.getsignal(number) or signal.SIG_DFL for number in STOP_SIGNALS}

        def restore() -> None:
            signal.set_wakeup_fd(-1)
            for number, handler in earlier.items():
                signal.signal(number, handler)
            admit()

        def admit() -> None:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)

        # What comes to the child before it has them waits.
        os.register_at_fork(
            before=lambda: signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS),
            after_in_parent=admit,
            after_in_child=restore,
        )

    def _watch(self) -> None:
        while True:
            for number in os.read(self._wakeups, 64):
                if number in STOP_SIGNALS:
                    self._take(number)

    def _take(self, number: int) -> None:
        if not self.armed:
            # Inside init_process_group nobody would ever look at the flag.
            os._exit(EXIT_PREEMPTED)
        self.requested = True
        self._interrupts += number == signal.SIGINT
        if self._interrupts > 1:
            self.insisted = True
            if self._quits:
                os._exit(EXIT_FAILED)


def die_with_launcher() -> None:
    """Ask the kernel to end this worker when its launcher dies, so that none is left alone (Linux only).

    A worker that somebody started by hand stays: its parent may be a shell that ends.
    """
    launcher = os.environ.get(LAUNCHER_PID_VARIABLE)
    if launcher is not None and sys.platform.startswith("linux"):
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != int(launcher):
            os._exit(EXIT_FAILED)  # the launcher died before the call above


def name_process(name: str) -> None:
    """Set the name that `top` shows, at most 15 characters (Linux only)."""
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None).prctl(_PR_SET_NAME, name.encode())
