"""What a sweep found: combinations by validation loss, with differences and errors, and whether to look further. Pure.

Runs that differ in `seed` alone are repetitions: their mean stands for the combination, and the standard error of that
mean says how much a difference is worth.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import fmean, stdev
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from trainer.sweep.axes import canonical
from trainer.sweep.points import SEED
from trainer.sweep.standing import Standing

State = Literal["finished", "partial", "given up", "failed", "waiting"]
# More of these is better and dearer: their largest value is the best of nearly every sweep.
_BUY_LOSS = ("model.", "steps", "tokens", "epochs")
_CLEAR = 2.0
"""Standard errors that a difference must exceed to be called one: about 19 times in 20."""


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)


class Row(_Part):
    """One combination."""

    runs: tuple[str, ...]
    """Its runs, one for each seed."""
    settings: dict[str, Any]
    state: State
    """Of its runs the one that is furthest from finished."""
    finished: int
    """Runs that are."""
    step: int | None
    """Of its newest evaluation, the least of its runs."""
    validation_loss: float | None
    """Nats per token: the mean over its finished runs, of a combination without one the newest there is; null where the
    last loss of a finished run is not a number."""
    standard_error: float | None
    """Of that mean, over seeds; null with fewer than two."""
    difference: float | None = None
    """To the best combination; null where one of them is not finished, or has no loss that is a number."""
    difference_error: float | None = None
    """Standard error of the difference; null where either has none."""
    message: str = ""
    """Why it failed."""


class Edge(_Part):
    """The best combination has the smallest or largest value that was tried: a better one may lie beyond."""

    key: str
    side: Literal["lowest", "highest"]
    value: float
    try_next: float
    """One step further by the same ratio."""


class SweepResult(_Part):
    """The JSON of `gpt-run sweep --json`."""

    name: str
    keys: tuple[str, ...]
    rows: tuple[Row, ...]
    """Finished ones first, best first."""
    best: Row | None
    """Null as long as nothing is finished with a loss."""
    edges: tuple[Edge, ...]
    notes: tuple[str, ...]
    """What to make of it, in sentences."""


def make_result(
    name: str,
    keys: Sequence[str],
    standings: Sequence[Standing],
    *,
    failures: Mapping[str, str],
    given_up: frozenset[str] | set[str] = frozenset(),
    advice: Sequence[str] = (),
    retry: str = "the same command tries them again",
) -> SweepResult:
    """The result of what the runs' files say.

    failures: runs that failed just now, and why; retry: how they are tried again.
    """
    groups: dict[str, list[Standing]] = {}
    for standing in standings:
        settings = {key: value for key, value in standing.point.settings.items() if key != SEED}
        groups.setdefault(canonical(settings), []).append(standing)
    rows = sorted((_row(group, failures, given_up) for group in groups.values()), key=_order)
    best = rows[0] if rows and rows[0].state == "finished" and rows[0].validation_loss is not None else None
    compared = tuple(_compared(row, best) for row in rows)
    edges = tuple(_edges(best, compared)) if best else ()
    return SweepResult(
        name=name,
        keys=tuple(key for key in keys if key != SEED),
        rows=compared,
        best=compared[0] if best else None,
        edges=edges,
        notes=(*_notes(compared, edges, retry), *advice),
    )


def _row(group: Sequence[Standing], failures: Mapping[str, str], given_up: frozenset[str] | set[str]) -> Row:
    states: list[State] = [_state(one, failures, given_up) for one in group]
    order: tuple[State, ...] = ("failed", "waiting", "partial", "given up", "finished")
    state = min(states, key=order.index)
    done = [one for one in group if one.finished]
    losses = [one.loss for one in done or group if one.loss is not None]
    if len(losses) < len(done):  # without the seed that diverged the others' mean would flatter the combination
        losses = []
    steps = [max(one.validation) for one in done or group if one.validation]
    return Row(
        runs=tuple(one.point.name for one in group),
        settings={key: value for key, value in group[0].point.settings.items() if key != SEED},
        state=state,
        finished=len(done),
        step=min(steps, default=None),
        validation_loss=fmean(losses) if losses else None,
        standard_error=stdev(losses) / math.sqrt(len(losses)) if len(losses) > 1 and done else None,
        message=" ".join(filter(None, (failures.get(one.point.name, "") for one in group))),
    )


def _state(standing: Standing, failures: Mapping[str, str], given_up: frozenset[str] | set[str]) -> State:
    name = standing.point.name
    if name in failures:
        return "failed"
    if standing.finished:
        return "finished"
    if name in given_up:
        return "given up"
    return "waiting" if standing.report is None else "partial"


def _order(row: Row) -> tuple[bool, float]:
    return row.state != "finished", math.inf if row.validation_loss is None else row.validation_loss


def _compared(row: Row, best: Row | None) -> Row:
    """With its difference to the best."""
    if best is None or row.state != "finished" or row.validation_loss is None or best.validation_loss is None:
        return row
    error = None
    if row is best:
        error = 0.0
    elif row.standard_error is not None and best.standard_error is not None:
        error = math.hypot(row.standard_error, best.standard_error)
    return row.model_copy(update={"difference": row.validation_loss - best.validation_loss, "difference_error": error})


def _edges(best: Row, rows: Sequence[Row]) -> list[Edge]:
    """Keys of which the best has an extreme of three values or more; fewer are a choice, not a range."""
    found = []
    for key, value in best.settings.items():
        tried = sorted(
            {other for other in (row.settings.get(key, 0) for row in rows) if is_number(other) and other > 0}
        )
        if key.startswith(_BUY_LOSS) or len(tried) < 3 or value not in (tried[0], tried[-1]):
            continue
        lowest = value == tried[0]
        ratio = tried[0] / tried[1] if lowest else tried[-1] / tried[-2]
        beyond = float(f"{value * ratio:.3g}")
        if all(isinstance(other, int) for other in tried):
            beyond = round(beyond)
        if not beyond or beyond in tried:  # nothing lies beyond 1
            continue
        found.append(Edge(key=key, side="lowest" if lowest else "highest", value=value, try_next=beyond))
    return found


def is_number(value: object) -> bool:
    """A number, which true and false are not here."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def _notes(rows: Sequence[Row], edges: Sequence[Edge], retry: str) -> list[str]:
    notes = []
    done = [row for row in rows if row.state == "finished"]
    known = [row for row in done if row.validation_loss is not None]
    if len(known) > 1:
        notes.append(_verdict(known[1]))
    if len(known) < len(done):
        notes.append(f"{len(done) - len(known)} of {len(rows)} finished with a loss that is not a number")
    notes += [
        f"the best {edge.key}, {edge.value:g}, is the {edge.side} that was tried: widen the range, "
        f"--over {edge.key}=...,{edge.try_next:g}"
        for edge in edges
    ]
    for state, words in (
        ("failed", f"failed; {retry}"),
        ("given up", "given up by --halving; without it the same command trains them to the end"),
    ):
        if count := sum(row.state == state for row in rows):
            notes.append(f"{count} of {len(rows)} {words}")
    if count := sum(row.state in ("waiting", "partial") for row in rows):
        notes.append(f"{count} of {len(rows)} not finished; the same command goes on")
    return notes


def _verdict(second: Row) -> str:
    """What the distance between the two best is worth."""
    if second.difference_error is None:
        return (
            f"the next is worse by {second.difference:.4f}; with one seed each nobody knows whether that is noise: "
            "--over seed=1,2,3 tells"
        )
    assert second.difference is not None
    clear = second.difference > _CLEAR * second.difference_error
    return f"the next is worse by {second.difference:.4f} +- {second.difference_error:.4f}: " + (
        f"more than {_CLEAR:g} standard errors" if clear else "within the noise"
    )
