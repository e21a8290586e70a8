"""What must hold after a run, whatever befell it: pure functions from what was found to what is wrong."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from tests.faults.observe import Step
from tests.faults.plan import OF_DISK, Kind, Plan

LOSS_DIFFERENCE = 1e-5
# An account is kept by several processes, and its lines are rounded to milliseconds.
_ACCOUNT_SECONDS = 1.0
# Between looking for the newest checkpoint and the claim that names it lies the load.
_LOAD_SECONDS = 10.0
_GENTLE = ("Preempted", "Scaled")
# Not a store that denies: it does so for less than trainer.storage_errors.REFUSED_SECONDS.
_MAY_BE_REFUSED = {Kind.DISK_READ_ONLY, Kind.FLIP_SHARD, *OF_DISK}


@dataclass(frozen=True)
class Claim:
    """One attempt's claim as it lies in the store."""

    attempt: int
    base: str | None
    reason: str | None
    """How the attempt before ended."""
    written_at: float
    """By the file system's clock."""
    message: str = ""
    """What was said of that end."""

    @property
    def after_good_order(self) -> bool:
        """Whether the attempt before had the time to save its last step."""
        return self.reason in _GENTLE and "killed" not in self.message


@dataclass(frozen=True)
class Exit:
    """How one process of a machine ended."""

    code: int | None
    text: str


@dataclass(frozen=True)
class Evidence:
    """What a run left."""

    plan: Plan
    alone: Mapping[int, tuple[float, str]]
    """(loss, batch_sha256) by step of the run left alone."""
    printed: Sequence[Step] = ()
    lines: Sequence[Mapping[str, Any]] = ()
    """training.jsonl of all attempts that has losses."""
    accounts: Sequence[Mapping[str, Any]] = ()
    """performance.jsonl of all attempts, in order."""
    claims: Sequence[Claim] = ()
    said_saved: Sequence[str] = ()
    committed_at: Mapping[str, float] = field(default_factory=dict)
    unsound: Mapping[str, str] = field(default_factory=dict)
    """Checkpoints that `checkpoints verify` refuses, and why."""
    flipped: str | None = None
    started_from_nothing: int = 0
    exits: Sequence[Exit] = ()
    ended: bool = True
    why_not: str = ""
    left: Sequence[str] = ()

    @property
    def bitwise(self) -> bool:
        """Whether every attempt had the world size of the run left alone."""
        return self.plan.fixed or self.plan.machines == 1


def violations(found: Evidence) -> list[str]:
    """Everything that does not hold, in words."""
    return [
        *_batches_and_losses(found),
        *_checkpoints(found),
        *_beginnings(found),
        *_steps_done_twice(found),
        *_ends(found),
        *_account(found),
        *(f"left behind: {what}" for what in found.left),
    ]


def done_again(found: Evidence) -> list[int]:
    """Steps that each attempt after the first had to do again."""
    return [reached - base for _, reached, base in _restarts(found)]


def _batches_and_losses(found: Evidence) -> Iterator[str]:
    seen = [(one.attempt, one.step, one.loss, one.batch) for one in found.printed]
    seen += [(int(line["attempt"][1:]), line["step"], line["loss"], line["batch_sha256"]) for line in found.lines]
    for attempt, step, loss, batch in seen:
        alone_loss, alone_batch = found.alone[step]
        if batch != alone_batch:
            yield f"step {step} of attempt {attempt} read another batch"
        elif loss is None or (loss != alone_loss if found.bitwise else abs(loss - alone_loss) > LOSS_DIFFERENCE):
            yield f"step {step} of attempt {attempt} has loss {loss}, left alone {alone_loss}"
    if found.ended:
        missing = sorted(set(found.alone) - {step for _, step, _, _ in seen})
        if missing:
            yield f"steps {missing} were never taken"


def _checkpoints(found: Evidence) -> Iterator[str]:
    for name in sorted(set(found.said_saved) - set(found.committed_at)):
        if name != found.flipped:
            yield f"checkpoint {name} was saved and is lost"
    for name, reason in found.unsound.items():
        if name != found.flipped:
            yield f"checkpoint {name} is wrong: {reason}"


def _beginnings(found: Evidence) -> Iterator[str]:
    for claim in found.claims:
        earlier = [name for name, at in found.committed_at.items() if at < claim.written_at - _LOAD_SECONDS]
        if claim.base is None and claim.attempt > 1 and earlier:
            yield f"attempt {claim.attempt} began from nothing beside {max(earlier)}"


def _restarts(found: Evidence) -> Iterator[tuple[Claim, int, int]]:
    """(claim, the step that had been reached, that of its base) of every attempt after one that took steps."""
    for claim in found.claims:
        before = [one.step for one in found.printed if one.attempt == claim.attempt - 1]
        if before:
            yield claim, max(before), _step_of(claim.base)


def _steps_done_twice(found: Evidence) -> Iterator[str]:
    # A pod that is removed by force is told to go, and killed a moment later.
    troubled = {
        kind for kind in found.plan.kinds if kind.name.startswith(("STORE_", "DISK_", "FLIP_", "REMOVE_WORKER"))
    }
    for claim, reached, base in _restarts(found):
        if claim.after_good_order and reached > base and not troubled:
            yield f"attempt {claim.attempt} did {reached - base} steps again after a stop in good order"
        for name, at in found.committed_at.items():
            of_attempt = int(name.rpartition("-a")[2])
            newer = of_attempt == claim.attempt - 1 and _step_of(name) > base and name != found.flipped
            looked_at = at < claim.written_at - _LOAD_SECONDS and Kind.STORE_STALE not in troubled
            if claim.base is not None and newer and looked_at:
                yield f"attempt {claim.attempt} began at step {base} although {name} was committed"


def _ends(found: Evidence) -> Iterator[str]:
    if not found.ended:
        yield f"the run does not end: {found.why_not}"
    for one in found.exits:
        if "not understood" in one.text:
            yield "coordinator and launchers do not understand each other"
        if "Traceback (most recent call last)" in one.text:
            last = [line for line in one.text.splitlines() if line.strip()][-1]
            yield f"a machine ended with {one.code} and a traceback: {last[:300]}"
        elif one.code == 2 and not found.plan.kinds & _MAY_BE_REFUSED:
            yield f"a machine ended with 2, as if its input was wrong: {one.text[-300:]}"
        elif one.code == 2 and not all(word in one.text for word in ("error: ", "expected: ", "to do: ")):
            yield f"a machine ended with 2 and does not say what to do: {one.text[-300:]}"
        elif one.code == 1 and "error" not in one.text:
            yield f"a machine ended with 1 and says nothing: {one.text[-300:]}"


def _account(found: Evidence) -> Iterator[str]:
    """Seconds by purpose add up to the time since the run began, on every line."""
    if not found.accounts:
        return
    skew = max(found.plan.clocks_seconds) - min(found.plan.clocks_seconds)
    allowed = _ACCOUNT_SECONDS + 2 * skew * len(found.claims)
    began = [_time(line) - sum(line["goodput_seconds"].values()) for line in found.accounts]
    for line, start in zip(found.accounts, began, strict=True):
        if abs(start - began[0]) > allowed:
            yield f"goodput at step {line['step']} of {line['attempt']} is {began[0] - start:+.1f} s off the run's time"
            return


def _time(line: Mapping[str, Any]) -> float:
    return datetime.fromisoformat(line["time"]).timestamp()


def _step_of(name: str | None) -> int:
    match = re.match(r"step-(\d+)-", name or "")
    return int(match[1]) if match else 0
