"""Who owns a run: numbered claims in the store, written once each.

Every world of workers claims the next number before it writes anything; one that sees a newer claim is fenced and
stops. Each claim names the checkpoint it began from, and `lineage` (pure) turns claims into the order of checkpoints to
resume from, so that the late commit of a stopped attempt never wins. Rank 0 claims; the Saver checks the fence.
"""

from __future__ import annotations

import itertools
import re
import uuid
from collections.abc import Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime

from pydantic import BaseModel, ConfigDict, ValidationError

from trainer.checkpoint.layout import (
    FORMAT,
    attempt_name,
    checkpoint_name,
    marker_bytes,
    parse_name,
    require_format,
)
from trainer.checkpoint.store import AlreadyExists, Store
from trainer.errors import Fenced, UserError

ATTEMPTS = "attempts"
_CLAIM = re.compile(r"a(\d{4,})\.json")
# Numbers that are asked for before it is said that something is wrong.
_CLAIM_TRIES = 100
# Requests at a time where all claims are read.
_STREAMS = 8


class PreviousEnd(BaseModel):
    """How the attempt before ended, and whether that spends a try of the retry budget."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    reason: str
    counted: bool
    message: str = ""


class AttemptClaim(BaseModel):
    """attempts/a0003.json."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    format: int = FORMAT
    attempt: int
    nonce: str
    started_at: datetime
    world_size: int
    hosts: list[str] = []
    image: str | None = None
    git_commit: str | None = None
    config_sha256: str
    base_checkpoint: str | None = None
    previous_end: PreviousEnd | None = None


@dataclass(frozen=True)
class Attempt:
    """A claim that is ours. Other ranks build it from the claim that rank 0 broadcasts."""

    run: Store
    claim: AttemptClaim

    @property
    def number(self) -> int:
        return self.claim.attempt

    def newest_claim(self) -> AttemptClaim:
        """The claim with the highest number in the store right now."""
        numbers = claim_numbers(self.run)
        return read_claim(self.run, numbers[-1]) if numbers else self.claim

    def check_fence(self) -> None:
        """Fenced if a newer attempt has claimed the run."""
        newest = self.newest_claim()
        if newest.attempt > self.number:
            hosts = ", ".join(newest.hosts) or "unknown hosts"
            raise Fenced(
                f"{self.run.url} belongs to attempt {attempt_name(newest.attempt)} since "
                f"{newest.started_at:%Y-%m-%d %H:%M:%S} UTC ({newest.world_size} ranks on {hosts}); "
                f"attempt {attempt_name(self.number)} stops writing"
            )


def claim_attempt(
    run: Store,
    *,
    world_size: int,
    config_sha256: str,
    base_checkpoint: str | None,
    hosts: Sequence[str] = (),
    image: str | None = None,
    git_commit: str | None = None,
    previous_end: PreviousEnd | None = None,
    now: datetime | None = None,
) -> Attempt:
    """Claim the next number. Two at once: one gets it, the other the one after (and so fences the first).

    UserError where one number after the other is taken and no listing shows by whom.
    """
    taken = 0
    for _ in range(_CLAIM_TRIES):
        claim = AttemptClaim(
            attempt=max([taken, *claim_numbers(run)]) + 1,
            nonce=uuid.uuid4().hex,
            started_at=now or datetime.now(UTC),
            world_size=world_size,
            hosts=list(hosts),
            image=image,
            git_commit=git_commit,
            config_sha256=config_sha256,
            base_checkpoint=base_checkpoint,
            previous_end=previous_end,
        )
        try:
            run.write_once(_claim_path(claim.attempt), marker_bytes(claim))
        except AlreadyExists:
            taken = claim.attempt
            continue
        return Attempt(run, claim)
    raise UserError(
        f"{run.url_of(ATTEMPTS)}: {_CLAIM_TRIES} numbers that were asked for, up to {attempt_name(taken)}, were taken",
        expected="one world of workers at a time, and a store whose listings show what was written",
        fix="stop what else starts this run; a store behind a cache (a proxy, a FUSE mount) must not keep listings",
    )


def claim_numbers(run: Store) -> list[int]:
    """Numbers of all claims, ascending, read afresh."""
    matches = (_CLAIM.fullmatch(name) for name in run.list_names(ATTEMPTS))
    return sorted(int(match[1]) for match in matches if match)


def read_claim(run: Store, number: int) -> AttemptClaim:
    """One claim. UserError if it is not readable, or of a newer format."""
    path = _claim_path(number)
    try:
        claim = AttemptClaim.model_validate_json(run.read_bytes(path))
    except ValidationError as error:
        raise UserError(
            f"{run.url_of(path)} is not a valid claim ({error.error_count()} errors)",
            expected="the JSON of an attempt's claim",
            fix="restore the file from a backup, or start a run of another name",
        ) from error
    require_format(f"{run.url_of(path)}: format", claim.format, newest=FORMAT)
    return claim


def read_claims(run: Store) -> dict[int, AttemptClaim]:
    """All claims of a run by number; a run on machines that come and go has thousands. UserError as of `read_claim`."""
    found: dict[int, AttemptClaim] = {}
    for number, claim in readable_claims(run).items():
        if not isinstance(claim, AttemptClaim):
            raise claim
        found[number] = claim
    return found


def readable_claims(run: Store) -> dict[int, AttemptClaim | UserError | FileNotFoundError]:
    """All claims of a run by number, and in the place of one that cannot be read why not."""

    def read(number: int) -> AttemptClaim | UserError | FileNotFoundError:
        try:
            return read_claim(run, number)
        except (UserError, FileNotFoundError) as error:
            return error

    numbers = claim_numbers(run)
    with ThreadPoolExecutor(_STREAMS) as pool:
        return dict(zip(numbers, pool.map(read, numbers), strict=True))


def recent_failures(run: Store, *, within_seconds: float, now: datetime) -> list[tuple[float, str]]:
    """(age in seconds, message) of the ends that count against the retry budget, oldest first."""
    found: list[tuple[float, str]] = []
    for number in reversed(claim_numbers(run)):
        claim = read_claim(run, number)
        age_seconds = (now - claim.started_at).total_seconds()
        if age_seconds > within_seconds:
            break
        if claim.previous_end is not None and claim.previous_end.counted:
            found.append((age_seconds, claim.previous_end.message))
    return found[::-1]


@dataclass(frozen=True)
class Lineage:
    """Checkpoints to resume from, best first, and what the oldest attempt of the chain itself began from."""

    names: tuple[str, ...]
    origin: str | None = None  # URL of another run's checkpoint, when the chain began there


def lineage(bases: Mapping[int, str | None], names: Iterable[str]) -> Lineage:
    """Order of checkpoints to resume from.

    bases: attempt -> its base checkpoint, a name in this run or a URL elsewhere. names: committed checkpoints.
    The newest attempt's own come first, highest step first; then its base and what the base's attempt had committed up
    to there; and so on. What an attempt committed past the point where a later one branched off is not in it. Attempts
    that committed nothing are passed over if they began from nothing, or from a checkpoint of this run that is gone.
    Where no claim says anything (a folder copied by hand) the highest step wins.
    """
    steps: dict[int, list[int]] = {}
    present = set(names)
    for name in present:
        parsed = parse_name(name)
        if parsed is not None:
            steps.setdefault(parsed[1], []).append(parsed[0])
    found: list[tuple[int, int]] = []
    attempt: int | None = max(
        (number for number, base in bases.items() if number in steps or (base and _may_be_there(base, present))),
        default=None,
    )
    if attempt is None:
        found = sorted(((step, attempt) for attempt, own in steps.items() for step in own), reverse=True)
        return Lineage(tuple(_names(found)))
    limit: int | None = None
    origin: str | None = None
    visited: set[int] = set()
    while attempt is not None and attempt not in visited:
        visited.add(attempt)
        own = sorted((step for step in steps.get(attempt, []) if limit is None or step <= limit), reverse=True)
        found += [(step, attempt) for step in own]
        base = bases.get(attempt)
        parsed = parse_name(base) if base else None
        if parsed is None:
            origin = base
            break
        limit, attempt = parsed
    return Lineage(tuple(_names(found)), origin)


def has_gone_on(configs: Mapping[int, str], names: Iterable[str], config_sha256: str) -> bool:
    """Whether the newest attempts were made by this config and committed something.

    configs: attempt -> hash of the config that made it. names: committed checkpoints. `resume` says where a config
    begins; when its attempts are preempted or fail, the next one has to go on with what they did.
    """
    own = set(itertools.takewhile(lambda number: configs[number] == config_sha256, sorted(configs, reverse=True)))
    return any(parsed[1] in own for parsed in map(parse_name, names) if parsed is not None)


def read_lineage(run: Store, names: Iterable[str]) -> Lineage:
    """`lineage` over the run's claims as they are in the store."""
    return lineage({number: claim.base_checkpoint for number, claim in read_claims(run).items()}, names)


def _may_be_there(base: str, present: Collection[str]) -> bool:
    """Of this run's checkpoints it is known, of one elsewhere it is not."""
    return parse_name(base) is None or base in present


def _names(found: Iterable[tuple[int, int]]) -> Iterable[str]:
    return (checkpoint_name(step, attempt) for step, attempt in found)


def _claim_path(number: int) -> str:
    return f"{ATTEMPTS}/{attempt_name(number)}.json"
