"""When this process started, to the hundredth of a second: where a run's account of time begins."""

from __future__ import annotations

import os
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psutil

_STAT = Path("/proc/self/stat")
# Field 22 of proc(5), counted from the first after the program's name, which may hold spaces.
_START_TIME = 22 - 3


def process_started() -> datetime:
    """By the wall clock of now. psutil counts from the boot, which Linux tells in whole seconds only."""
    if not _STAT.exists():
        return datetime.fromtimestamp(psutil.Process().create_time(), UTC)
    ticks = int(_STAT.read_text().rpartition(")")[2].split()[_START_TIME])
    age_seconds = time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")
    return datetime.now(UTC) - timedelta(seconds=age_seconds)
