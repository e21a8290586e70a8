"""What the store says of the runs of a sweep: not begun, begun, finished, or another run of that name."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from trainer.checkpoint.layout import RUN_FILE
from trainer.checkpoint.store import Store, open_run
from trainer.config_file import changed_keys, validate_run
from trainer.errors import UserError
from trainer.metrics.report import RunReport
from trainer.metrics.report.build import report_run
from trainer.sweep.points import Point
from trainer.yaml_dialect import parse_yaml

_STREAMS = 8
_FINISHED = ("finished", "early_stopping")
# What may change while a run goes on: where and how often it saves, speaks and is restarted, not what it computes.
_FREE = ("checkpoint", "cost", "elastic", "log", "resume", "trackers")


@dataclass(frozen=True)
class Standing:
    """A run of a sweep, as its files tell it."""

    point: Point
    report: RunReport | None = None
    """None before its first attempt."""

    @property
    def finished(self) -> bool:
        """Whether its newest attempt came to the end."""
        return self.report is not None and ended_well(self.report)

    @property
    def validation(self) -> dict[int, float]:
        """{step: validation loss} of its curve."""
        lines = self.report.kept if self.report is not None else ()
        return {line.step: line.validation_loss for line in lines if line.validation_loss is not None}

    @property
    def loss(self) -> float | None:
        """The newest validation loss; None also where that is not a number."""
        return self.report.report.validation_loss if self.report is not None else None


def ended_well(run: RunReport) -> bool:
    """Whether a run's newest attempt came to its end; reaching the last step is not enough, it may not be saved."""
    attempts = run.report.attempts
    return bool(attempts) and attempts[-1].end is not None and attempts[-1].end.reason in _FINISHED


def look(point: Point, store: str | None = None) -> Standing:
    """What the store has of a run; `store` where the run is not kept where its run file says."""
    run = open_run(store or point.config.checkpoint.store, point.name)
    return Standing(point, report_run(run.url)) if _has_begun(run) else Standing(point)


def look_at_all(points: Sequence[Point]) -> list[Standing]:
    """Of every run. UserError, for all of them together, where a run of that name was made with another config."""
    with ThreadPoolExecutor(_STREAMS) as pool:
        others = [words for words in pool.map(_difference, points) if words]
        if others:
            raise UserError(
                "runs with these names but another config are in the store:\n" + "\n".join(others),
                expected="names that are free, or the runs of this sweep",
                fix="restore the run file, sweep under another name (--set name=OTHER), or remove those runs",
            )
        return list(pool.map(look, points))


def _has_begun(run: Store) -> bool:
    return "attempts" in run.list_names()


def _difference(point: Point) -> str:
    """In what the run in the store differs from the one that the sweep would make; nothing where it does not."""
    run = open_run(point.config.checkpoint.store, point.name)
    try:
        text = run.read_bytes(RUN_FILE).decode()
    except FileNotFoundError:
        return ""
    source = run.url_of(RUN_FILE)
    try:
        document: Any = parse_yaml(text, source=source)
        found = validate_run(document, source=source)
    except UserError as error:
        return f"  - {error.found}"
    changes = {key: pair for key, pair in changed_keys(found, point.config).items() if key.split(".")[0] not in _FREE}
    words = ", ".join(f"{key} is {old!r}, not {new!r}" for key, (old, new) in changes.items())
    return f"  - {run.url}: {words}" if words else ""
