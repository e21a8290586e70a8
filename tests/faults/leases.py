"""Files on this machine's disks that nobody can open for a while: the kernel keeps those who try waiting.

A write lease (fcntl(2), F_SETLEASE) is what file servers use to be asked before somebody else opens a file: the open
waits until the holder lets go, or for the 45 s of /proc/sys/fs/lease-break-time.
"""

from __future__ import annotations

import fcntl
import os
import signal
from collections.abc import Iterable
from pathlib import Path


class Leases:
    """Keeps files closed; only for one who may (their owner, or root)."""

    def __init__(self) -> None:
        self._files: list[int] = []

    def take(self, paths: Iterable[Path]) -> None:
        """Keep these files from everybody else. OSError if one is open somewhere."""
        for path in paths:
            file = os.open(path, os.O_RDONLY)
            self._files.append(file)
            # The signal by which the kernel tells of an open; by itself it would end this process.
            fcntl.fcntl(file, fcntl.F_SETSIG, signal.SIGURG)
            fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_WRLCK)

    def asked(self) -> int:
        """How many of the files somebody waits for."""
        return sum(fcntl.fcntl(file, fcntl.F_GETLEASE) != fcntl.F_WRLCK for file in self._files)

    def release(self) -> None:
        """Let everybody in."""
        while self._files:
            os.close(self._files.pop())
