"""Reading the lines that a run keeps in its store: logs/a0003/NAME-000.jsonl.

Called by `trainer.metrics.tensorboard` and `trainer.metrics.report`. A process that dies may leave half a line, and a
disk may damage one; neither hides the others.
"""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from typing import Any, NamedTuple

_FILE = re.compile(r"logs/a(?P<attempt>\d+)/(?P<kind>[a-z]+)-(?P<segment>\d+)\.jsonl")


class LogFile(NamedTuple):
    """One file of lines; sorted, they are in the order in which they were written."""

    attempt: int
    segment: int
    kind: str
    """training, performance, gpu, events or samples."""
    path: str


def log_file(path: str) -> LogFile | None:
    """What a path in a run's store stands for; None if it is no file of lines."""
    match = _FILE.fullmatch(path)
    return LogFile(int(match["attempt"]), int(match["segment"]), match["kind"], path) if match else None


def parse_line(line: bytes, *, with_step: bool = True) -> dict[str, Any] | None:
    """The record of a line; None for a damaged one, and for one without a step where every line should have it."""
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(record, dict) or (with_step and type(record.get("step")) is not int):
        return None
    return record


def seconds_of(record: dict[str, Any]) -> float | None:
    """Seconds since the epoch of a record's `time`, which is UTC where it does not say; None where it has none."""
    try:
        time = datetime.fromisoformat(record["time"])
        return (time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp()
    except (KeyError, ValueError, TypeError, OverflowError):
        return None
