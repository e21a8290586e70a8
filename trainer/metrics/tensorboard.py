"""TensorBoard over a run's own lines, wherever the run's store is; called by `gpt-run tensorboard`.

training.jsonl is in the store anyway, and TensorBoard reads no object stores. So its event files are made here, beside
it, out of the lines: a run needs neither TensorBoard nor its files, and runs of before can be looked at too. A curve
never forks: what an attempt did behind the checkpoint from which a later one went on is taken out.
"""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import Any

from trainer.checkpoint.store import Store
from trainer.extras import needs
from trainer.metrics.lines import parse_line, seconds_of

# Key of a line -> what the curve is called; TensorBoard groups them by what stands before the slash.
CURVES = {
    "loss": "train/loss",
    "lr": "train/lr",
    "grad_norm": "train/grad_norm",
    "epoch": "train/epoch",
    "tokens_per_second": "speed/tokens_per_second",
    "step_seconds": "speed/step_seconds",
    "mfu_ratio": "speed/mfu_ratio",
    "memory_bytes": "speed/memory_bytes",
    "world_size": "speed/world_size",
    "validation_loss": "validation/loss",
    "perplexity": "validation/perplexity",
    "bits_per_byte": "validation/bits_per_byte",
    "hellaswag_acc_norm": "validation/hellaswag_acc_norm",
}
_LINES = re.compile(r"logs/(?P<attempt>a\d+)/training-\d+\.jsonl")
_log = logging.getLogger(__name__)


class EventFiles:
    """The event files of a run in a local folder, which grow as the run's lines do."""

    def __init__(self, run: Store, folder: Path) -> None:
        """Raises UserError where TensorBoard is not installed."""
        with needs("tensorboard", "gpt-run tensorboard"):
            from torch.utils.tensorboard.writer import SummaryWriter
        self._make_writer = SummaryWriter
        self._run, self._folder = run, folder
        self._taken_bytes: dict[str, int] = {}
        self._attempt = ""
        self._writer: Any = None
        self._first_step = 0
        """Of the newest attempt: lines of earlier ones end before it."""

    def update(self) -> int:
        """Take over what the run has written since the last call; returns how many lines."""
        found = {path: size for path, size in self._run.find("logs").items() if _LINES.fullmatch(path)}
        lines = 0
        for path in sorted(found):
            if found[path] > self._taken_bytes.get(path, 0):
                lines += self._take(path)
        if self._writer is not None:
            self._writer.flush()
        return lines

    def close(self) -> None:
        """Close the event files."""
        if self._writer is not None:
            self._writer.close()

    def _take(self, path: str) -> int:
        match = _LINES.fullmatch(path)
        assert match is not None
        taken = self._taken_bytes.get(path, 0)
        # A line that is still being written is left for the next time.
        whole, _, _ = self._run.read_bytes(path, taken or None).rpartition(b"\n")
        records = [record for line in whole.splitlines() if (record := _record(line, path)) is not None]
        self._taken_bytes[path] = taken + len(whole) + 1 if whole else taken
        for record in records:
            self._add(match["attempt"], record)
        return len(records)

    def _add(self, attempt: str, record: dict[str, Any]) -> None:
        step = record["step"]
        if attempt > self._attempt:
            self._attempt, self._first_step = attempt, step
            if self._writer is not None:
                self._writer.close()
            # TensorBoard drops what earlier files have from this step on.
            self._writer = self._make_writer(str(self._folder), purge_step=step, filename_suffix=f".{attempt}")
        if attempt < self._attempt and step >= self._first_step:
            return  # uploaded late, and done again since
        seconds = seconds_of(record)
        for key, curve in CURVES.items():
            value = record.get(key)
            if isinstance(value, int | float):
                self._writer.add_scalar(curve, value, step, walltime=seconds)


def _record(line: bytes, path: str) -> dict[str, Any] | None:
    """A line that tells of a step; None, with a warning, for one that is damaged."""
    record = parse_line(line)
    if record is None:
        _log.warning("%s: a line is damaged and left out: %.60r", path, line)
    return record
