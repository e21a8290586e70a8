"""What workers of the tests do; forked by name, as real ones are."""

from __future__ import annotations

import os
import signal
import sys
import time
from multiprocessing.connection import Connection
from pathlib import Path

from trainer.elastic.pulse import Pulse


def work(pipe: Connection, folder: str, code: str) -> int:
    """Run a piece of Python that knows `rank`, and may call `ready()` and `pulse.tell(...)`."""
    rank = int(os.environ["RANK"])
    names = {
        "os": os,
        "signal": signal,
        "sys": sys,
        "time": time,
        "rank": rank,
        "ready": Path(folder, str(rank)).touch,
        "pulse": Pulse(pipe.fileno()),
    }
    exec(code, names)
    return 0
