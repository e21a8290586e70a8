"""From a run file and `--over` to runs: a name and a checked config for each combination. Nothing is started here.

A run's name ends with a hash of what it sets, so a combination keeps its name when values are added, left out or
written in another order, and a wider sweep takes over what has been trained.
"""

from __future__ import annotations

import copy
import hashlib
import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from trainer.config import LENGTH_KEYS, RunConfig
from trainer.config_file import read_run_file, validate_run
from trainer.errors import UserError
from trainer.overrides import apply_override, split_overrides
from trainer.sweep.axes import Axis, Choice, canonical, drawn, grid, parse_axes, settings_of

SEED = "seed"
"""Runs that differ in this key alone are repetitions of one combination."""
_HASH_DIGITS = 6
_LONGEST_NAME = 40
# Draws that may come out as one that is there already, before a random search gives up.
_TRIES = 50


@dataclass(frozen=True)
class Request:
    """What the user asked for."""

    run: str
    """A run file, or the name of a preset."""
    over: Sequence[str]
    overrides: Sequence[str] = ()
    random: int | None = None
    """Combinations to draw; None for all of the grid."""
    seed: int = 1
    """Of the draws."""
    limit: int = 64


@dataclass(frozen=True)
class Point:
    """One run of a sweep."""

    name: str
    settings: Mapping[str, Any]
    """What `--over` sets."""
    config: RunConfig

    @property
    def words(self) -> str:
        """`optimizer.lr=0.001 batch.sequences=8`."""
        return " ".join(f"{key}={value}" for key, value in self.settings.items())


@dataclass(frozen=True)
class Sweep:
    """All runs of a sweep."""

    name: str
    keys: tuple[str, ...]
    """In the order of `--over`."""
    points: tuple[Point, ...]
    advice: tuple[str, ...] = field(default=())
    """What makes the comparison less fair than it could be."""


def make_sweep(request: Request) -> Sweep:
    """The runs of a request. UserError with the complaints about all of them, before anything is started."""
    axes = parse_axes(request.over, at_random=request.random is not None)
    raw = read_run_file(request.run)
    for override in split_overrides(os.environ.get("GPTRUN_SET", "")):
        apply_override(raw, override, source="GPTRUN_SET", exclusive=LENGTH_KEYS)
    for override in request.overrides:
        apply_override(raw, override, exclusive=LENGTH_KEYS)
    name = _check_name(raw.get("name"), request.run)
    choices = _choices(axes, request)
    points = _points(raw, name, choices)
    keys = tuple(key for axis in axes for key in axis.keys)
    return Sweep(name, keys, points, tuple(_advice(points)))


def point_name(name: str, settings: dict[str, Any]) -> str:
    """`<name>-<hash of the settings>`."""
    return f"{name}-{hashlib.sha256(canonical(settings).encode()).hexdigest()[:_HASH_DIGITS]}"


def _check_name(name: object, run: str) -> str:
    room = _LONGEST_NAME - _HASH_DIGITS - 1
    if not isinstance(name, str) or len(name) > room:
        raise UserError(
            f"{run}: name is {name!r}" + (f", {len(name)} characters" if isinstance(name, str) else ""),
            expected=f"at most {room} characters, since the runs are called NAME-{'x' * _HASH_DIGITS} and no run's "
            f"name is longer than {_LONGEST_NAME}",
            fix="name it shorter: --set name=SHORT",
        )
    return name


def _choices(axes: Sequence[Axis], request: Request) -> list[Choice]:
    if not axes:
        raise UserError("a sweep over nothing", expected="one --over or more", fix="--over optimizer.lr=1e-3,2e-3")
    count = request.random or math.prod(len(axis.values) for axis in axes)
    if count > request.limit:
        raise UserError(
            f"{count} combinations, each a run of its own",
            expected=f"at most {request.limit}",
            fix=f"give fewer values, draw some with --random {request.limit}, or raise --limit to {count}",
        )
    if request.random is None:
        return _different(grid(axes), count)
    return _different(islice(drawn(axes, request.seed), count * _TRIES), count)


def _different(choices: Iterable[Choice], wanted: int) -> list[Choice]:
    """The first of them, without those that set what another has set."""
    found: dict[str, Choice] = {}
    for choice in choices:
        found.setdefault(canonical(settings_of(choice)), choice)
        if len(found) == wanted:
            break
    return list(found.values())


def _points(raw: dict[str, Any], name: str, choices: Sequence[Choice]) -> tuple[Point, ...]:
    points: list[Point] = []
    names: dict[str, str] = {}
    complaints: dict[str, list[str]] = {}
    for choice in choices:
        settings = settings_of(choice)
        called = point_name(name, settings)
        words = " ".join(f"{key}={text}" for key, text in choice)
        mine = copy.deepcopy(raw)
        try:
            for key, text in choice:
                apply_override(mine, f"{key}={text}", source="--over", exclusive=LENGTH_KEYS)
            mine["name"] = called
            if (other := names.setdefault(called, words)) is not words:
                raise UserError(
                    f"{other} and {words} are both called {called}, by a chance of one in {16**_HASH_DIGITS:,}",
                    expected="runs of different names",
                    fix="leave one of them out, or write it as a sweep of its own under another --set name",
                )
            points.append(Point(called, {key: settings[key] for key, _ in choice}, validate_run(mine, source=called)))
        except UserError as error:
            for line in _complaints_in(error):
                complaints.setdefault(line, []).append(words)
    if complaints:
        lines = [f"  - {line} ({_where(found, len(choices))})" for line, found in complaints.items()]
        raise UserError(
            f"{len(choices)} combinations, and nothing was started:\n" + "\n".join(lines),
            expected="keys and values that `gpt-run config schema` describes, in every combination",
            fix="correct the run file, --set or --over",
        )
    _check_validation(points)
    return tuple(points)


def _complaints_in(error: UserError) -> list[str]:
    """The sentences of a list of problems; of any other complaint its first line."""
    return [line[4:] for line in error.found.splitlines() if line.startswith("  - ")] or [error.found]


def _where(found: list[str], total: int) -> str:
    if len(found) == total:
        return "in all of them"
    more = f" and {len(found) - 2} more" if len(found) > 2 else ""
    return "with " + ", ".join(found[:2]) + more


def _check_validation(points: Sequence[Point]) -> None:
    if any(point.config.evaluate.every_steps == 0 for point in points):
        raise UserError(
            "evaluate.every_steps is 0: the runs would have no validation loss to compare",
            expected="an evaluation at the end of every run",
            fix="--set evaluate.every_steps=N; the last step is evaluated too",
        )


def _advice(points: Sequence[Point]) -> Iterator[str]:
    """Why runs of one sweep may not be comparable."""
    steps = {(p.config.steps, p.config.batch.sequences * p.config.sequence_length) for p in points}
    if all(p.config.steps for p in points) and len({tokens for _, tokens in steps}) > len({s for s, _ in steps}):
        yield (
            "the length is given in steps, so runs with larger batches read more tokens; give it in tokens to "
            "compare them at equal cost: --set tokens=N"
        )
    if len({p.config.model.vocab_size for p in points}) > 1 or len({p.config.sequence_length for p in points}) > 1:
        yield "runs differ in vocabulary or sequence length: their losses per token are not comparable"
