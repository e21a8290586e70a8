"""Turns of several sides: who begins changes each round, and a side that does not work leaves the others alone."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import TypeVar

from benchmarks.environments import PeerMissing, peer_python
from benchmarks.hosts import Host, HostFailed, Job

T = TypeVar("T")
# Sides that live in an environment of their own, by the name of its pins.
ENVIRONMENTS = {"Fabric": "fabric", "DeepSpeed": "deepspeed"}
_COMPLAINT_CHARACTERS = 300


def in_turn(sides: Sequence[str], rounds: int) -> Iterator[str]:
    """The names in the order of their turns; each round begins with another side."""
    for number in range(rounds):
        first = number % len(sides)
        yield from [*sides[first:], *sides[:first]]


def take_turns(
    working: dict[str, Host], absent: dict[str, str], rounds: int, turn: Callable[[Host], T]
) -> dict[str, list[T]]:
    """What `turn` gave for each side, round by round. A side that fails is left out, and `absent` is told why."""
    found: dict[str, list[T]] = {side: [] for side in working}
    for side in in_turn(list(working), rounds):
        if side in absent:
            continue
        try:
            found[side].append(turn(working[side]))
        except HostFailed as error:
            print(error, file=sys.stderr, flush=True)
            absent[side] = complaint(error)
    return {side: values for side, values in found.items() if side not in absent}


@contextmanager
def hosts(
    module: str, names: Iterable[str], *arguments: str, world: int, threads: int, first_job: Job
) -> Iterator[tuple[dict[str, Host], dict[str, str]]]:
    """A host of MODULE per side that has done `first_job`; and of the sides that could not, what was said."""
    with ExitStack() as stack:
        working: dict[str, Host] = {}
        absent: dict[str, str] = {}
        for name in names:
            try:
                python = peer_python(ENVIRONMENTS[name]) if name in ENVIRONMENTS else None
                host = stack.enter_context(Host(module, name, *arguments, python=python, world=world, threads=threads))
                host.ask(first_job)
            except (PeerMissing, HostFailed) as error:
                print(error, file=sys.stderr, flush=True)
                absent[name] = complaint(error)
            else:
                working[name] = host
        yield working, absent


def complaint(error: BaseException) -> str:
    """The last line of an error, short enough for a page."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1][-_COMPLAINT_CHARACTERS:] if lines else type(error).__name__
