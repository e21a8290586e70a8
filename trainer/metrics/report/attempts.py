"""The attempts of a run: when each worked, how it ended, and which of its lines count. Pure.

Called by `trainer.metrics.report.build`. An attempt that goes on from step 40 does again what another did after it, so
of that other one's lines only those up to step 40 belong to the run's curve.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from datetime import UTC, datetime
from statistics import median

from trainer.checkpoint.layout import parse_name
from trainer.metrics.report.folds import Event, TrainingLine
from trainer.metrics.report.model import AttemptRow, End, Restarts
from trainer.metrics.report.reading import RunFiles

# What an attempt's own last event says, in the words of the list of reasons where it is on it.
_ENDS = {"finished", "stopped"}
_REASONS = {"preempted": "Preempted"}


def numbers_of(files: RunFiles) -> list[int]:
    """All attempts that left a trace, ascending."""
    traces = {line.attempt for line in files.training} | {one.attempt for one in files.checkpoints}
    return sorted(traces | files.claims.keys() | files.unreadable_claims | files.last_sign.keys())


def last_steps(files: RunFiles) -> dict[int, float]:
    """Attempt -> last of its steps that no later attempt did again; infinite for the newest."""
    first_lines: dict[int, int] = {}
    for line in files.training:
        first_lines[line.attempt] = min(line.step, first_lines.get(line.attempt, line.step))
    own_commits = {one.attempt for one in files.checkpoints}
    limit = math.inf
    limits = {}
    for attempt in reversed(numbers_of(files)):
        limits[attempt] = limit
        base = _base_step(files, attempt)
        if base == 0 and attempt not in first_lines and attempt not in own_commits:
            continue  # it ended before it did anything
        if base is not None:
            limit = min(limit, base)
        elif attempt in first_lines:
            limit = min(limit, first_lines[attempt] - 1)
    return limits


def _base_step(files: RunFiles, attempt: int) -> int | None:
    """The step that an attempt went on from; None where nothing says so: another run's checkpoint, or no claim."""
    claim = files.claims.get(attempt)
    if claim is None:
        return None
    if claim.base_checkpoint is None:
        return 0
    base = parse_name(claim.base_checkpoint)
    return base[0] if base is not None else None


def attempt_rows(files: RunFiles, limits: dict[int, float]) -> tuple[AttemptRow, ...]:
    """A row for each attempt, in order."""
    numbers = numbers_of(files)
    lines: dict[int, list[TrainingLine]] = defaultdict(list)
    for line in files.training:
        lines[line.attempt].append(line)
    ends: dict[int, Event] = {event.attempt: event for event in files.events if event.kind in _ENDS}
    told = {event.attempt: event for event in files.events if event.kind == "attempt" and event.reason}
    commits = Counter(one.attempt for one in files.checkpoints)
    rows: list[AttemptRow] = []
    for number, following in zip(numbers, [*numbers[1:], None], strict=True):
        end = _end(files, ends.get(number), following, told)
        rows.append(_row(files, number, lines[number], limits[number], commits[number], end, rows[-1:]))
    return tuple(rows)


def restarts_of(rows: Sequence[AttemptRow]) -> tuple[Restarts, ...]:
    """Why there were attempts after the first, most frequent first."""
    ends = [row.end for row in rows[:-1]]
    counts = Counter(end.reason if end else "unknown" for end in ends)
    counted = Counter(end.reason for end in ends if end is not None and end.counted)
    return tuple(Restarts(reason=reason, count=n, counted=counted[reason]) for reason, n in counts.most_common())


def _end(files: RunFiles, last: Event | None, following: int | None, told: dict[int, Event]) -> End | None:
    """How an attempt ended: by the next one's claim, else by its own last event, else by the next one's first."""
    claim = files.claims.get(following) if following is not None else None
    if claim is not None and claim.previous_end is not None:
        end = claim.previous_end
        return End(reason=end.reason, counted=end.counted, message=end.message)
    if last is not None:
        reason = last.reason or last.kind
        return End(reason=_REASONS.get(reason, reason), counted=False, message=last.message)
    if following is not None and (event := told.get(following)) is not None:
        return End(reason=str(event.reason), counted=False, message=event.message)
    return None


def _row(
    files: RunFiles,
    number: int,
    lines: list[TrainingLine],
    limit: float,
    commits: int,
    end: End | None,
    before: list[AttemptRow],
) -> AttemptRow:
    claim = files.claims.get(number)
    times = [line.seconds for line in lines if line.seconds is not None]
    start = claim.started_at.timestamp() if claim is not None else min(times, default=None)
    last = files.last_sign.get(number, start)
    speeds = [line.tokens_per_second for line in lines if line.tokens_per_second is not None]
    steps = [line.step for line in lines]
    # Where nothing says from which step it went on, all that is known is that it had not done its first line's.
    base = _base_step(files, number)
    began = base if base is not None else min(steps, default=1) - 1
    sign_before = before[0].last_sign_at if before else None
    worlds = [line.world_size for line in lines if line.world_size is not None]
    return AttemptRow(
        attempt=number,
        started_at=utc(start),
        last_sign_at=utc(last),
        seconds=max(last - start, 0.0) if start is not None and last is not None else None,
        idle_seconds=max(start - sign_before.timestamp(), 0.0) if start is not None and sign_before else None,
        world_size=claim.world_size if claim is not None else worlds[0] if worlds else None,
        hosts=len(set(claim.hosts)) or None if claim is not None else None,
        base_checkpoint=claim.base_checkpoint if claim is not None else None,
        first_step=min(steps, default=None),
        last_step=max(steps, default=None),
        steps_redone=int(max(steps[-1] - max(limit, began), 0)) if steps else 0,
        tokens_per_second=median(speeds) if speeds else None,
        checkpoints=commits,
        end=end,
    )


def utc(seconds: float | None) -> datetime | None:
    """A time, from seconds since the epoch; None for none, and for what no calendar has."""
    try:
        return None if seconds is None else datetime.fromtimestamp(seconds, UTC)
    except (ValueError, OverflowError, OSError):
        return None
