"""A run's own files, read for the report: claims, markers of checkpoints, run.yaml and lines, on any store.

Called by `trainer.metrics.report.build`. What cannot be read is left out with a warning that names the file; only a
place where nothing of a run is to be found is an error.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from trainer.checkpoint.attempts import AttemptClaim, readable_claims
from trainer.checkpoint.layout import RUN_FILE, Committed, read_checkpoints
from trainer.checkpoint.store import Store, open_store
from trainer.errors import UserError
from trainer.metrics.lines import LogFile, log_file, parse_line, seconds_of
from trainer.metrics.report.folds import Event, GpuFold, PerformanceFold, TrainingLine, event, training_line
from trainer.storage_errors import one_line

PARTS = {"attempts", "checkpoints", "logs"}
"""Names in a run's folder."""
_STREAMS = 8
# Files of lines in memory at a time.
_BATCH_FILES = 32


@dataclass
class RunFiles:
    """What a run's folder holds."""

    url: str
    name: str
    config: dict[str, Any] = field(default_factory=dict)
    """run.yaml as it is written; programs of other versions may have made it."""
    claims: dict[int, AttemptClaim] = field(default_factory=dict)
    unreadable_claims: set[int] = field(default_factory=set)
    checkpoints: list[Committed] = field(default_factory=list)
    training: list[TrainingLine] = field(default_factory=list)
    """In the order of attempts; of an attempt as they were written."""
    performance: PerformanceFold = field(default_factory=PerformanceFold)
    gpus: GpuFold = field(default_factory=GpuFold)
    events: list[Event] = field(default_factory=list)
    last_sign: dict[int, float] = field(default_factory=dict)
    """Attempt -> time of its newest line or commit, seconds since the epoch."""
    warnings: list[str] = field(default_factory=list)

    def sign(self, attempt: int, seconds: float | None) -> None:
        """Note that an attempt was alive at a time."""
        if seconds is not None:
            self.last_sign[attempt] = max(self.last_sign.get(attempt, seconds), seconds)


def read_run(url: str) -> RunFiles:
    """All that the run at `url` (<store>/<run>) has to tell. UserError where there is no run, or an empty one."""
    run = _open(url)
    found = RunFiles(run.url, run.name)
    _read_config(run, found)
    _read_claims(run, found)
    _read_markers(run, found)
    _read_lines(run, found)
    if not (found.claims or found.unreadable_claims or found.checkpoints or found.last_sign or found.training):
        raise UserError(
            f"{run.url} holds no attempt yet",
            expected="a run that has begun: claims in attempts/, lines in logs/",
            fix="start it with `gpt-run train`, or name another",
        )
    return found


def _open(url: str) -> Store:
    run = open_store(url)
    names = run.list_names()
    if PARTS.isdisjoint(names):
        runs = [name for name in names if "." not in name][:8]
        raise UserError(
            f"{run.url} is not a run",
            expected="<store>/<run>, a folder with attempts/, checkpoints/ and logs/",
            fix=f"name one of: {', '.join(f'{run.url}/{name}' for name in runs)}"
            if runs
            else "nothing is there: correct the path or URL",
        )
    return run


def _read_config(run: Store, found: RunFiles) -> None:
    try:
        document = YAML(typ="safe").load(run.read_bytes(RUN_FILE).decode())
    except FileNotFoundError:
        return
    except (YAMLError, UnicodeDecodeError) as error:
        found.warnings.append(f"{run.url_of(RUN_FILE)}: not readable ({one_line(error)})")
        return
    if isinstance(document, dict):
        found.config = document


def _read_claims(run: Store, found: RunFiles) -> None:
    for number, claim in readable_claims(run).items():
        if isinstance(claim, AttemptClaim):
            found.claims[number] = claim
        else:
            found.unreadable_claims.add(number)
            found.warnings.append(claim.found if isinstance(claim, UserError) else f"{claim}: not there any more")


def _read_markers(run: Store, found: RunFiles) -> None:
    try:
        listing = read_checkpoints(run)
    except UserError as error:
        found.warnings.append(error.found)
        return
    found.warnings += listing.broken.values()
    found.checkpoints = [checkpoint.committed for checkpoint in listing.committed]
    for committed in found.checkpoints:
        found.sign(committed.attempt, committed.committed_at.timestamp())


def _read_lines(run: Store, found: RunFiles) -> None:
    files = sorted(file for path in run.find("logs") if (file := log_file(path)) is not None)
    for kind in ("training", "performance", "gpu", "events"):
        for attempt, record in _records(run, [file for file in files if file.kind == kind], found):
            seconds = seconds_of(record)
            found.sign(attempt, seconds)
            match kind:
                case "training":
                    found.training.append(training_line(attempt, seconds, record))
                case "performance":
                    found.performance.add(attempt, seconds, record)
                case "gpu":
                    found.gpus.add(attempt, seconds, record)
                case _:
                    found.events.append(event(attempt, seconds, record))
    found.gpus.finish()


def _records(run: Store, files: list[LogFile], found: RunFiles) -> Iterator[tuple[int, dict[str, Any]]]:
    """(attempt, record) of each sound line."""

    def read(file: LogFile) -> bytes | Exception:
        try:
            return run.read_bytes(file.path)
        except (OSError, TimeoutError, UserError) as error:
            return error

    damaged: Counter[str] = Counter()
    with ThreadPoolExecutor(_STREAMS) as pool:
        for start in range(0, len(files), _BATCH_FILES):
            batch = files[start : start + _BATCH_FILES]
            for file, content in zip(batch, pool.map(read, batch), strict=True):
                if isinstance(content, Exception):
                    found.warnings.append(f"{run.url_of(file.path)}: not read ({one_line(content)})")
                    continue
                for line in content.splitlines():
                    record = parse_line(line, with_step=file.kind != "events")
                    if record is None:
                        damaged[file.path] += 1
                    else:
                        yield file.attempt, record
    for path, count in damaged.items():
        lines = "1 line is" if count == 1 else f"{count} lines are"
        found.warnings.append(f"{run.url_of(path)}: {lines} damaged or cut off, and left out")
