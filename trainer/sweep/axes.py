"""What `--over` says: the keys that a sweep changes, and their values. Pure.

Four forms, each value written as it would stand behind `--set`:

    optimizer.lr=1e-3,2e-3,4e-3             these values
    optimizer.lr=1e-4..1e-2:5               five values between both ends, evenly spaced on a logarithmic scale
    optimizer.lr=1e-4..1e-2                 for a random search: any value between both ends, drawn on that scale
    model.layers/model.width=2/64,4/128     keys that change together
"""

from __future__ import annotations

import json
import math
import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

from trainer.errors import UserError
from trainer.overrides import split_overrides
from trainer.yaml_dialect import parse_yaml

_NUMBER = r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?"
_RANGE = re.compile(rf"(?P<low>{_NUMBER})\.\.(?P<high>{_NUMBER})(?::(?P<count>\w+))?")
_DIGITS = 3
_MOST_VALUES = 1000
_OWN = {
    "name": "the sweep names its runs",
    "checkpoint.store": "all runs of a sweep share a store",
    "resume": "each run goes on from its own newest checkpoint",
    "task": "a sweep trains",
}

Choice = tuple[tuple[str, str], ...]
"""(key, value as it is written) of every key that a combination sets."""


@dataclass(frozen=True)
class Axis:
    """One `--over`."""

    keys: tuple[str, ...]
    values: tuple[tuple[str, ...], ...] = ()
    """One text for each key; empty for a range without a count."""
    span: tuple[float, float] | None = None
    """From where to where a range goes that a random search draws from."""
    whole: bool = False
    """Whether the values of `span` are whole numbers."""

    def choices(self) -> list[Choice]:
        """What a grid takes from this axis."""
        return [tuple(zip(self.keys, texts, strict=True)) for texts in self.values]

    def draw(self, generator: random.Random) -> Choice:
        """What a random search takes from it."""
        if self.span is None:
            return generator.choice(self.choices())
        low, high = self.span
        value = math.exp(generator.uniform(math.log(low), math.log(high)))
        return ((self.keys[0], _written(value, self.whole)),)


def parse_axes(texts: Sequence[str], *, at_random: bool) -> list[Axis]:
    """All `--over`; `at_random` where values are drawn. UserError for what cannot be read, and for a key twice."""
    axes = [_parse(text, at_random) for text in texts]
    keys = [key for axis in axes for key in axis.keys]
    for key in keys:
        if keys.count(key) > 1:
            raise UserError(f"--over names {key} twice", expected="each key once", fix="put its values into one --over")
        if key in _OWN:
            raise UserError(f"--over {key}: {_OWN[key]}", expected="a key of the run file", fix="leave it to --set")
    return axes


def grid(axes: Sequence[Axis]) -> list[Choice]:
    """Every combination, the last axis changing fastest."""
    return [tuple(pair for part in parts for pair in part) for parts in product(*(axis.choices() for axis in axes))]


def drawn(axes: Sequence[Axis], seed: int) -> Iterator[Choice]:
    """Combinations of a random search without end; the first N are the same however many are taken.

    Random points try as many values of each key as there are runs (Bergstra and Bengio 2012, JMLR 13, 281-305).
    """
    generator = random.Random(seed)
    ordered = sorted(axes, key=lambda axis: axis.keys)
    while True:
        yield tuple(pair for axis in ordered for pair in axis.draw(generator))


def settings_of(choice: Choice) -> dict[str, Any]:
    """{key: value} as the run file would hold them, sorted by key: equal for equal values, however they are written."""
    return {key: parse_yaml(text, source=f"--over {key}") for key, text in sorted(choice)}


def canonical(settings: dict[str, Any]) -> str:
    """Text that is equal for equal settings."""
    return json.dumps(settings, sort_keys=True, separators=(",", ":"), default=str)


def _parse(text: str, at_random: bool) -> Axis:
    head, separator, tail = text.partition("=")
    keys = tuple(key.strip() for key in head.split("/"))
    if not separator or not all(keys) or not tail.strip():
        raise UserError(
            f"--over {text}",
            expected="KEY=VALUE,VALUE,... or KEY=LOW..HIGH:COUNT",
            fix="write for example --over optimizer.lr=1e-3,2e-3,4e-3",
        )
    if (match := _RANGE.fullmatch(tail.strip())) is not None:
        return _range(text, keys, match, at_random)
    parts = split_overrides(tail)
    values = [tuple(part.split("/")) if len(keys) > 1 else (part,) for part in parts]
    for part, value in zip(parts, values, strict=True):
        if len(value) != len(keys):
            raise UserError(
                f"--over {text}: `{part}` has {len(value)} values for {len(keys)} keys",
                expected=f"{len(keys)} values with a `/` between them",
                fix="write for example --over model.layers/model.width=2/64,4/128",
            )
    return Axis(keys, tuple(dict.fromkeys(values)))


def _range(text: str, keys: tuple[str, ...], match: re.Match[str], at_random: bool) -> Axis:
    ends, count = (match["low"], match["high"]), match["count"]
    low, high = float(ends[0]), float(ends[1])
    if len(keys) > 1 or not 0 < low < high:
        raise UserError(
            f"--over {text}", expected="a range of one key with 0 < LOW < HIGH", fix="write the values one by one"
        )
    whole = all(end.lstrip("+").isdecimal() for end in ends)
    if count is None:
        if not at_random:
            raise UserError(
                f"--over {text}: a range without a count",
                expected="LOW..HIGH:COUNT for a grid",
                fix=f"write --over {text}:5, or draw from it with --random N",
            )
        return Axis(keys, span=(low, high), whole=whole)
    if not count.isdecimal() or not 2 <= int(count) <= _MOST_VALUES:
        raise UserError(f"--over {text}", expected=f"2 to {_MOST_VALUES} values", fix=f"write {ends[0]}..{ends[1]}:5")
    steps = int(count) - 1
    inner = [_written(low * (high / low) ** (i / steps), whole) for i in range(1, steps)]
    return Axis(keys, tuple(dict.fromkeys((value,) for value in (ends[0], *inner, ends[1]))))


def _written(value: float, whole: bool) -> str:
    """A value with as many digits as a person would try."""
    return str(round(value)) if whole else f"{value:.{_DIGITS}g}"
