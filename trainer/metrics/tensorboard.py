"""TensorBoard over a run's own lines, wherever the run's store is; called by `gpt-run tensorboard`.

The lines are in the store anyway, whether the run keeps event files there or not, and they have all that those have. So
event files are made here out of the lines, by the same functions: runs of before can be looked at too, and what a
tracker missed is there. A curve never forks: what an attempt did behind the checkpoint from which a later one went on
is taken out.
"""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import Any, cast

from trainer.checkpoint.attempts import read_claim
from trainer.checkpoint.layout import RUN_FILE, parse_name
from trainer.checkpoint.store import Store
from trainer.errors import UserError
from trainer.extras import needs
from trainer.metrics.lines import parse_line
from trainer.metrics.trackers.base import KINDS, Kind, Line
from trainer.yaml_dialect import parse_yaml

_LINES = re.compile(rf"logs/a(?P<attempt>\d+)/(?P<kind>{'|'.join(KINDS)})-(?P<segment>\d+)\.jsonl")
# Records have to have what the events are made of.
_KEYS: dict[Kind, tuple[str, ...]] = {
    "training": (),
    "histograms": ("edges", "parameters", "gradients"),
    "samples": ("number", "prompt", "text"),
}
_log = logging.getLogger(__name__)


class EventFiles:
    """The event files of a run in a local folder, which grow as the run's lines do."""

    def __init__(self, run: Store, folder: Path) -> None:
        """Raises UserError where TensorBoard is not installed."""
        with needs("tensorboard", "gpt-run tensorboard"):
            from trainer.metrics.trackers import events
        self._events = events
        self._run, self._folder = run, folder
        self._taken_bytes: dict[str, int] = {}
        self._attempt = 0
        self._first_step = 0
        """Of the newest attempt: lines of earlier ones end before it."""

    def update(self) -> int:
        """Take over what the run has written since the last call; returns how many lines."""
        lines = 0
        for path, size in sorted(self._run.find("logs").items(), key=lambda found: _order(found[0])):
            if _LINES.fullmatch(path) and size > self._taken_bytes.get(path, 0):
                lines += self._take(path)
        return lines

    def _take(self, path: str) -> int:
        match = _LINES.fullmatch(path)
        assert match is not None
        taken = self._taken_bytes.get(path, 0)
        # A line that is still being written is left for the next time.
        whole, _, _ = self._run.read_bytes(path, taken or None).rpartition(b"\n")
        kind = cast("Kind", match["kind"])
        records = [record for line in whole.splitlines() if (record := _record(line, kind, path)) is not None]
        self._taken_bytes[path] = taken + len(whole) + 1 if whole else taken
        if records:
            self._add(int(match["attempt"]), [Line(kind, record) for record in records])
        return len(records)

    def _add(self, attempt: int, lines: list[Line]) -> None:
        events: list[Any] = []
        if attempt > self._attempt:
            self._attempt, self._first_step = attempt, self._first_step_of(attempt, lines)
            seconds = self._events.seconds_of(lines[0].record)
            events = [self._events.header(), self._events.session_start(self._first_step, seconds)]
            events += self._hyperparameters(seconds)
        for line in lines:
            # Lines of an earlier attempt that come late were done again since.
            if attempt == self._attempt or line.record["step"] < self._first_step:
                events += self._events.events_of(line)
        self._folder.mkdir(parents=True, exist_ok=True)
        with (self._folder / f"events.out.tfevents.a{self._attempt:04d}").open("ab") as file:
            file.write(self._events.encode(events))

    def _first_step_of(self, attempt: int, lines: list[Line]) -> int:
        """By the attempt's claim; the first line may be of a later step, since not every step has a line."""
        try:
            base = read_claim(self._run, attempt).base_checkpoint
        except (FileNotFoundError, UserError):
            return int(lines[0].record["step"])
        # A name, or the URL of another run's checkpoint.
        found = parse_name(base.rpartition("/")[2]) if base else None
        return found[0] + 1 if found else 1

    def _hyperparameters(self, seconds: float) -> list[Any]:
        """Of the newest attempt, as its run file says."""
        try:
            settings = parse_yaml(self._run.read_bytes(RUN_FILE).decode(), source=self._run.url_of(RUN_FILE))
        except (FileNotFoundError, UserError):
            return []
        return [self._events.hyperparameters(settings, self._run.name, seconds)] if isinstance(settings, dict) else []


def _order(path: str) -> tuple[int, str, int]:
    """By attempt, and segments by number: names alone would put the thousandth before the second."""
    match = _LINES.fullmatch(path)
    return (int(match["attempt"]), match["kind"], int(match["segment"])) if match else (0, path, 0)


def _record(line: bytes, kind: Kind, path: str) -> dict[str, Any] | None:
    """A line that tells of a step; None, with a warning, for one that is damaged."""
    record = parse_line(line)
    if record is not None and all(key in record for key in _KEYS[kind]):
        return record
    _log.warning("%s: a line is damaged and left out: %.60r", path, line)
    return None
