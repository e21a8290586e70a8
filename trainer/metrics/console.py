"""What a person sees of a run: one line per interval, and on a terminal a progress bar below it.

Called by rank 0 of the train loop. In a pod, or with `GPTRUN_LOG=json`, lines are logged without a bar; after a resume
the bar goes on at the step where the run goes on.
"""

from __future__ import annotations

import json
import logging
import math
import os
import sys
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from trainer.storage_errors import tell_retries

_LINE_FIELDS = ("step", "loss", "lr", "grad_norm", "tokens_per_second", "mfu_ratio", "memory_bytes", "eta_seconds")


class RunConsole:
    """Lines and progress of one attempt; silent on ranks other than 0."""

    def __init__(self, *, total_steps: int, first_step: int, rank: int) -> None:
        self._silent = rank != 0
        self._total_steps = total_steps
        self._json = os.environ.get("GPTRUN_LOG") == "json"
        self._console = Console(stderr=False, highlight=False, soft_wrap=True)
        self._progress: Progress | None = None
        if not self._silent and self._console.is_terminal and not self._json:
            self._progress = Progress(
                TextColumn("step"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
                TimeRemainingColumn(),
                console=self._console,
                refresh_per_second=2,
            )
            self._task = self._progress.add_task("train", total=total_steps, completed=first_step)
            self._progress.start()

    def say(self, message: str, **fields: Any) -> None:
        """One line for people: something happened."""
        if self._silent:
            return
        if self._json:
            self._print(json.dumps({"message": message, **fields}, default=str))
        else:
            self._print(message)

    def step(self, step: int) -> None:
        """Move the bar to `step`."""
        if self._progress is not None:
            self._progress.update(self._task, completed=step)

    def metrics(self, record: dict[str, Any]) -> None:
        """One line of figures; `record` is a line of training.jsonl."""
        if self._silent:
            return
        self._print(json.dumps(record) if self._json else self._format(record))

    def close(self) -> None:
        """Leave the terminal as it was."""
        if self._progress is not None:
            self._progress.stop()

    def _print(self, text: str) -> None:
        if self._progress is not None:
            self._progress.console.print(text, markup=False)
        else:
            print(text, flush=True)

    def _format(self, record: dict[str, Any]) -> str:
        if "validation_loss" in record:
            parts = [f"step {record['step']:>{len(str(self._total_steps))}}"]
            parts += [
                f"{key.replace('_', ' ')} {record[key]:.4f}"
                for key in ("validation_loss", "perplexity", "bits_per_byte", "general_loss", "forgetting")
                if record.get(key) is not None
            ]
            return "  ".join(parts)
        shown = {key: record[key] for key in _LINE_FIELDS if record.get(key) is not None}
        return "  ".join(self._field(key, value) for key, value in shown.items())

    def _field(self, key: str, value: float) -> str:
        width = len(str(self._total_steps))
        match key:
            case "step":
                return f"step {value:>{width}}/{self._total_steps}"
            case "loss":
                return f"loss {value:.4f}"
            case "lr":
                return f"lr {value:.2e}"
            case "grad_norm":
                return f"grad norm {value:.3f}"
            case "tokens_per_second":
                return f"{human_number(value)} tokens/s"
            case "mfu_ratio":
                return f"MFU {value:.1%}"
            case "memory_bytes":
                return f"memory {value / 2**30:.2f} GiB"
            case _:
                return f"ETA {human_seconds(value)}"


def human_number(value: float) -> str:
    """`12345.6` as `12.3k`."""
    for limit, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= limit:
            return f"{value / limit:.1f}{unit}"
    return f"{value:.0f}"


def human_seconds(seconds: float) -> str:
    """`3725` as `1h02m`; days, hours, minutes or seconds."""
    if not math.isfinite(seconds):
        return "unknown"
    whole = round(seconds)
    days, rest = divmod(whole, 86400)
    hours, rest = divmod(rest, 3600)
    minutes, left = divmod(rest, 60)
    if days:
        return f"{days}d{hours:02d}h"
    if hours:
        return f"{hours}h{minutes:02d}m"
    return f"{minutes}m{left:02d}s" if minutes else f"{left}s"


def configure_logging(rank: int) -> None:
    """Send warnings and errors of every rank, and everything of rank 0, to stderr."""
    level = logging.INFO if rank == 0 else logging.WARNING
    prefix = "" if rank == 0 else f"[rank {rank}] "
    logging.basicConfig(level=level, stream=sys.stderr, format=f"{prefix}%(levelname)s %(message)s", force=True)
    for noisy in ("fsspec", "aiobotocore", "botocore", "azure", "urllib3", "asyncio", "torch"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    tell_retries()
