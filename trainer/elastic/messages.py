"""What launchers and the coordinator say to each other: one JSON object per line over TCP.

`from_launcher` and `from_coordinator` refuse what is no message of theirs in words that can be sent back. Fields may
be added within a protocol version: unknown ones are ignored.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from trainer.elastic.reasons import Reason
from trainer.elastic.rounds import End

PROTOCOL = 1
# A longer line is no message: whoever reaches the coordinator must not be able to fill its memory.
LINE_BYTES = 256 * 2**10

Name = Annotated[str, Field(min_length=1, max_length=256)]
# JSON's integers have no end, those of a metric do.
Count = Annotated[int, Field(ge=0, lt=2**63)]
Some = Annotated[int, Field(ge=1, lt=2**31)]


class _Message(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class RoundClaim(_Message):
    """The round that a launcher's workers are in."""

    id: Name
    number: Some
    seats: tuple[Name, ...] = Field(min_length=1, max_length=65536)
    took_step: bool


class Hello(_Message):
    """First line of every connection."""

    type: Literal["hello"] = "hello"
    protocol: int
    run: Name
    version: str
    """Of the code; workers of one world run the same."""
    config_sha256: str
    id: Name
    host: Name
    slots: Some
    min_nodes: Some
    max_nodes: Some
    budget_failures: Count
    budget_window_seconds: float = Field(gt=0)
    step: Count = 0
    claim: RoundClaim | None = None


class Ready(_Message):
    """Waiting for a round."""

    type: Literal["ready"] = "ready"
    endpoint: Name
    """host:port of a fresh store for the process group, should this launcher be the first of the round."""


class Beat(_Message):
    """A few times a second."""

    type: Literal["beat"] = "beat"
    step: Count = 0
    took_step: bool = False
    status: dict[str, Any] | None = None
    """Rank 0's launcher only: fields of /status that changed, as `trainer.elastic.reported` takes them."""


class PastFailure(_Message):
    """A failure that counts against the budget."""

    age_seconds: float
    message: str


class Failures(_Message):
    """What the attempts' claims in the store tell of failures; rank 0's launcher says it once per round."""

    type: Literal["failures"] = "failures"
    failures: tuple[PastFailure, ...] = Field(max_length=1000)


class Leaving(_Message):
    """Told to stop; the workers save now."""

    type: Literal["leaving"] = "leaving"


class Ended(_Message):
    """The workers of a round ended."""

    type: Literal["ended"] = "ended"
    round: Name
    end: End
    reason: Reason | None = None
    exit_code: int = 0
    message: str = ""


class Bye(_Message):
    """This launcher ends in good order."""

    type: Literal["bye"] = "bye"


class Refused(_Message):
    """No place for this launcher, and why; it ends with the code.

    later: those who are here may be replaced by others like it, as pods are after an upgrade.
    """

    type: Literal["refused"] = "refused"
    exit_code: int
    message: str
    later: bool = False


class Waiting(_Message):
    """Why there is no round yet, for the log."""

    type: Literal["waiting"] = "waiting"
    why: str


class Start(_Message):
    """A round, and this launcher's place in it."""

    type: Literal["start"] = "start"
    round: Name
    number: int
    seats: tuple[Name, ...]
    first_rank: int
    world_size: int
    endpoint: Name
    """host:port of the store of the round's first launcher."""
    previous_end: dict[str, Any] | None
    """{reason, counted, message} for the attempt's claim; None if nothing went before."""

    def claim(self, *, took_step: bool) -> RoundClaim:
        """What a launcher in this round says of it to a coordinator that it comes back to."""
        return RoundClaim(id=self.round, number=self.number, seats=self.seats, took_step=took_step)


class StopWorkers(_Message):
    """End the workers of a round."""

    type: Literal["stop"] = "stop"
    round: Name
    save: bool
    reason: Reason
    message: str


class Over(_Message):
    """The run is over."""

    type: Literal["over"] = "over"
    exit_code: int
    reason: Reason | None
    message: str


FromLauncher = Hello | Ready | Beat | Failures | Leaving | Ended | Bye
FromCoordinator = Refused | Waiting | Start | StopWorkers | Over
M = TypeVar("M")
_FROM_LAUNCHER: TypeAdapter[FromLauncher] = TypeAdapter(Annotated[FromLauncher, Field(discriminator="type")])
_FROM_COORDINATOR: TypeAdapter[FromCoordinator] = TypeAdapter(Annotated[FromCoordinator, Field(discriminator="type")])


class NotAMessage(Exception):
    """A line that the other side cannot have meant; the text says why."""


def line_of(message: BaseModel) -> bytes:
    """The line that carries a message."""
    return message.model_dump_json().encode() + b"\n"


def from_launcher(line: bytes) -> FromLauncher:
    """Parse a launcher's line; NotAMessage if it is none."""
    return _parse(_FROM_LAUNCHER, line)


def from_coordinator(line: bytes) -> FromCoordinator:
    """Parse a coordinator's line; NotAMessage if it is none."""
    return _parse(_FROM_COORDINATOR, line)


def _parse(adapter: TypeAdapter[M], line: bytes) -> M:
    try:
        return adapter.validate_json(line)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "the line"
        raise NotAMessage(f"{where}: {first['msg']}") from error
