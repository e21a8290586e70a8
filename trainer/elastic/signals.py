"""Signals of a worker: a wish to stop that the train loop asks about, never an interruption in the middle of a step.

Installed by the worker before anything else. Until `arm` was called nothing can be lost, so SIGTERM ends the process at
once; afterwards it raises a flag that the loop shares with all ranks. A second Ctrl+C quits without saving.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from types import FrameType

from trainer.errors import EXIT_FAILED, EXIT_PREEMPTED

_PR_SET_PDEATHSIG = 1


class StopSignals:
    """SIGTERM and SIGINT as a flag."""

    def __init__(self) -> None:
        self.requested = False
        self._armed = False
        self._interrupts = 0
        self._previous = {number: signal.signal(number, self._handle) for number in (signal.SIGTERM, signal.SIGINT)}

    def arm(self) -> None:
        """From now on a signal raises the flag instead of ending the process."""
        self._armed = True

    def restore(self) -> None:
        """Put the former handlers back."""
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        if not self._armed:
            # Inside init_process_group nobody would ever look at the flag.
            os._exit(EXIT_PREEMPTED)
        self.requested = True
        if number == signal.SIGINT:
            self._interrupts += 1
            if self._interrupts > 1:
                os._exit(EXIT_FAILED)


def die_with_parent() -> None:
    """Ask the kernel to end this process when its launcher dies, so that no worker is left alone (Linux only)."""
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        launcher = os.environ.get("GPTRUN_LAUNCHER_PID")
        if launcher is not None and os.getppid() != int(launcher):
            os._exit(EXIT_FAILED)  # the launcher died before the call above
