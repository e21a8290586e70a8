"""What a worker tells its launcher while it works: lines of JSON through a pipe, never waited for.

The train loop calls `Pulse.tell`; the launcher takes silence for a hang, and rank 0's lines become /status.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
from typing import Any


class Pulse:
    """A worker's end; without a pipe it says nothing."""

    def __init__(self, descriptor: int | None = None) -> None:
        self._descriptor = descriptor
        if descriptor is not None:
            os.set_blocking(descriptor, False)

    def tell(self, **fields: Any) -> None:
        """Send what changed. A launcher that is frozen or gone costs nothing: what does not fit is left out."""
        if self._descriptor is None or not fields:
            return
        line = json.dumps(fields).encode() + b"\n"
        # Up to this size the kernel takes a line whole or not at all.
        if len(line) <= select.PIPE_BUF:
            with contextlib.suppress(BlockingIOError, BrokenPipeError):
                os.write(self._descriptor, line)
        elif len(fields) > 1:
            items = list(fields.items())
            self.tell(**dict(items[: len(items) // 2]))
            self.tell(**dict(items[len(items) // 2 :]))


class PulseReader:
    """A launcher's end of one worker's pipe."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._received = b""
        os.set_blocking(descriptor, False)

    def read(self) -> list[dict[str, Any]]:
        """What came in since the last call; never waits."""
        with contextlib.suppress(BlockingIOError):
            while data := os.read(self._descriptor, 65536):
                self._received += data
        *lines, self._received = self._received.split(b"\n")
        return [json.loads(line) for line in lines]
