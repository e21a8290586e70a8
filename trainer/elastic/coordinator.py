"""Where launchers meet: listens to them, asks `rounds.decide` what to do, and tells them.

Run by `gpt-run coordinator` in a pod of its own, so that no worker is special, and inside the launcher on one machine.
It keeps nothing on disk: a new one learns from the launchers that come back which round they are in, and training goes
on meanwhile. The store's attempt claims, not this process, are the last word on who may write.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import math
import time
import uuid
from collections.abc import Set
from typing import Any

from pydantic import ValidationError

from trainer.addresses import bound
from trainer.elastic import messages, roster
from trainer.elastic.messages import (
    Beat,
    Bye,
    Ended,
    Failures,
    FromLauncher,
    Hello,
    Leaving,
    NotAMessage,
    Ready,
    Refused,
)
from trainer.elastic.reasons import Reason
from trainer.elastic.reported import Reported
from trainer.elastic.rounds import (
    Adopt,
    Decision,
    End,
    Failure,
    Finish,
    Form,
    Member,
    Round,
    Rules,
    SeatEnd,
    Seen,
    Stop,
    Wait,
    cause,
    decide,
)
from trainer.elastic.status import RunStatus
from trainer.errors import EXIT_USER_ERROR, UserError

logger = logging.getLogger(__name__)

_TICK_SECONDS = 0.1
# A thousand launchers speak at once when a round ends: one look at the picture answers all of this while.
_GATHER_SECONDS = 0.01
# Why there is no round changes with every launcher that comes: told to a thousand for each of them, it is a million.
_NEWS_SECONDS = 1.0
# Connections that wait to be taken: all launchers of a run come back at once to a new coordinator.
_BACKLOG = 4096
_HOSTS_LOGGED = 8
# It looks at its picture once a tick: after a gap so long it was not running.
_STANDSTILL_SECONDS = 1.0
# Far more than a run has launchers. Each may make us hold a line: whoever reaches the port must not fill the memory.
_MOST_CONNECTIONS = 2048
# A stranger that connects and says nothing is sent away.
_HELLO_SECONDS = 10.0


class Coordinator:
    """One run's coordinator; everything happens in one asyncio loop."""

    def __init__(
        self,
        *,
        run: str | None = None,
        hold_seconds: float = 5.0,
        silent_seconds: float = Rules.silent_seconds,
    ) -> None:
        """run: the only name it serves; None: that of the first launcher. hold_seconds: see `Seen.hold_until`;
        silent_seconds: see `Rules`."""
        self._silent_seconds = silent_seconds
        self._run = run
        self._name = run or ""
        self._hold_seconds = hold_seconds
        self._looked_at = time.monotonic()
        self._seen = Seen(hold_until=self._looked_at + hold_seconds)
        self._writers: dict[str, asyncio.StreamWriter] = {}
        self._hellos: dict[str, Hello] = {}
        self._told: dict[str, bytes] = {}
        self._refused: dict[str, str] = {}
        self._logged = ""
        self._why = ""
        self._why_until = -math.inf
        """Until when launchers that wait are told no other reason."""
        self._news = asyncio.Event()
        self._server: asyncio.Server | None = None
        self._conversations: set[asyncio.Task[None]] = set()
        self.status = RunStatus()

    async def start(self, host: str, port: int) -> int:
        """Listen; returns the port, which the kernel chooses for 0. UserError if it is taken."""
        try:
            self._server = await asyncio.start_server(
                self._converse, sock=bound(host, port), limit=messages.LINE_BYTES, backlog=_BACKLOG
            )
        except OSError as error:
            raise UserError(
                f"port {port} for launchers cannot be opened ({error.strerror or error})",
                expected="a free port of this machine",
                fix="end the process that holds it, or choose another with --port",
            ) from error
        return int(self._server.sockets[0].getsockname()[1])

    async def run(self) -> None:
        """Decide a few times a second, and soon after news, until cancelled."""
        while True:
            self._news.clear()
            self._act()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_TICK_SECONDS):
                    await self._news.wait()
            await asyncio.sleep(_GATHER_SECONDS)

    async def close(self) -> None:
        """Stop listening and hang up."""
        if self._server is not None:
            self._server.close()
        for conversation in self._conversations:
            conversation.cancel()
        await asyncio.gather(*self._conversations, return_exceptions=True)

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, from hello to its end."""
        conversation = asyncio.current_task()
        assert conversation is not None
        if len(self._conversations) >= _MOST_CONNECTIONS:
            writer.close()
            return
        self._conversations.add(conversation)
        conversation.add_done_callback(self._conversations.discard)
        member_id = None
        try:
            async with asyncio.timeout(_HELLO_SECONDS):
                hello = messages.from_launcher(await _line(reader))
            if not isinstance(hello, Hello):
                raise NotAMessage(f"a {hello.type} before the hello")
            refusal = self._refusal(hello)
            if refusal is not None:
                if self._refused.get(hello.id) != refusal.message:  # one that waits comes back every few seconds
                    self._refused[hello.id] = refusal.message
                    logger.warning("refused %s of %s: %s", hello.id, hello.host, refusal.message)
                writer.write(messages.line_of(refusal))
                await writer.drain()
                return
            member_id = hello.id
            self._welcome(hello, writer)
            while line := await _line(reader):
                message = messages.from_launcher(line)
                self._take(member_id, message)
                if not isinstance(message, Beat):  # which decides nothing before its silence does
                    self._news.set()
        except NotAMessage as error:
            writer.write(messages.line_of(_refused(f"not understood: {error}")))
        except (TimeoutError, ConnectionError, ValueError):  # ValueError: a line beyond the limit
            pass
        except asyncio.CancelledError:
            pass  # we hang up; asyncio of Python 3.11 complains of a conversation that ends as cancelled
        finally:
            if member_id is not None and self._writers.get(member_id) is writer:
                del self._writers[member_id]
                self._told.pop(member_id, None)
                self._seen = roster.disconnected(self._seen, member_id, time.monotonic())
            with contextlib.suppress(ConnectionError):
                writer.close()

    def _refusal(self, hello: Hello) -> Refused | None:
        """Why a launcher has no place in this run; None if it has."""
        if hello.protocol != messages.PROTOCOL:
            return _refused(
                f"this launcher (gpt-run {hello.version}) speaks protocol {hello.protocol}, the coordinator "
                f"{messages.PROTOCOL}: run both from one image"
            )
        if self._run is not None and hello.run != self._run:
            return _refused(
                f"this coordinator serves run {self._run}, the launcher's is {hello.run}: correct the address"
            )
        if hello.min_nodes > hello.max_nodes:
            return _refused(f"nodes {hello.min_nodes}:{hello.max_nodes}: the smallest number is above the largest")
        # Those who are here agree with each other: any of them will do.
        others = (self._hellos[key] for key in self._seen.members if key != hello.id and key in self._hellos)
        for other in itertools.islice(others, 1):
            for what, ours, theirs in (
                ("run", hello.run, other.run),
                ("version", hello.version, other.version),
                ("config", hello.config_sha256[:12], other.config_sha256[:12]),
                ("nodes", f"{hello.min_nodes}:{hello.max_nodes}", f"{other.min_nodes}:{other.max_nodes}"),
            ):
                if ours != theirs:
                    return _refused(
                        f"the launchers that are here have {what} {theirs} ({other.host}), this one has {ours} "
                        f"({hello.host}): stop the run and start all of it with the same run file and image",
                        later=what != "run",
                    )
        return None

    def _welcome(self, hello: Hello, writer: asyncio.StreamWriter) -> None:
        if not self._seen.members:
            self._act()  # what the last ones said before they left may have ended the run
        now = time.monotonic()
        before = self._writers.get(hello.id)
        if before is not None:
            before.close()
        self._writers[hello.id] = writer
        if len(self._hellos) > 2 * len(self._seen.members):
            self._hellos = {key: known for key, known in self._hellos.items() if key in self._seen.members}
        self._hellos[hello.id] = hello
        self._name = hello.run
        self._told.pop(hello.id, None)
        if not self._seen.members:
            self._seen = roster.first_comes(self._seen, _rules(hello, self._silent_seconds))
        claim = None
        if hello.claim is not None:
            claim = Round(hello.claim.id, hello.claim.number, hello.claim.seats, first_step=hello.claim.took_step)
            self._seen = roster.round_reported(self._seen, until=now + self._hold_seconds)
        member = Member(hello.id, hello.host, hello.slots, since=now, seen_at=now, step=hello.step, claim=claim)
        self._seen = roster.hello(self._seen, member)
        logger.info("%s of %s is here with %d workers", hello.id, hello.host, hello.slots)
        self._news.set()

    def _take(self, member_id: str, message: FromLauncher) -> None:
        """Note what a launcher says."""
        now = time.monotonic()
        if member_id not in self._seen.members:
            # Given up as lost while it could not speak: it is heard again as one that comes back.
            raise ConnectionError
        match message:
            case Ready(endpoint=endpoint):
                self._seen = roster.ready(self._seen, member_id, endpoint, now)
            case Beat(step=step, took_step=took_step, status=status):
                self._seen = roster.beat(self._seen, member_id, now, step=step, took_step=took_step)
                if status is not None:
                    self._report(member_id, status)
            case Failures(failures=past):
                known = [Failure(now - failure.age_seconds, failure.message) for failure in past]
                self._seen = roster.remember(self._seen, known)
            case Leaving():
                self._seen = roster.leaving(self._seen, member_id)
            case Ended(round=round_id, end=end, reason=reason, message=text):
                self._seen = roster.ended(self._seen, member_id, round_id, SeatEnd(end, now, reason, text))
                if end not in (End.FINISHED, End.PREEMPTED, End.STOPPED):
                    self.status.error(message.exit_code, reason, text)
            case Bye():
                self._seen = roster.left(self._seen, member_id)
            case Hello():
                raise NotAMessage("a second hello")

    def _report(self, member_id: str, status: dict[str, Any]) -> None:
        """Show what rank 0 tells; what the pages cannot show is no reason to end the run."""
        try:
            self.status.report(Reported.model_validate(status).fields)
        except ValidationError as error:
            first = error.errors(include_url=False, include_context=False, include_input=False)[0]
            where = ".".join(str(part) for part in first["loc"])
            logger.warning("status of %s not understood: %s: %s", member_id, where, first["msg"])

    def _act(self) -> None:
        """Decide, say so, and again while the decision changes the picture."""
        while True:
            now = time.monotonic()
            if now > self._looked_at + _STANDSTILL_SECONDS:
                # What was said meanwhile is still to be read, line by line.
                self._seen = roster.stood_still(self._seen, now - self._looked_at, now)
                logger.warning("this coordinator stood still for %.1f s", now - self._looked_at)
            self._looked_at = now
            members, self._seen = self._seen.members, roster.settle(self._seen, now)
            self._hang_up(members.keys() - self._seen.members.keys())
            before = self._seen.round
            decision = decide(self._seen, now)
            self._seen = roster.carry_out(self._seen, decision, now, round_id=uuid.uuid4().hex)
            # First: who is told of a decision may ask for the status at once.
            self.status.look_at(self._name, self._seen, decision, now)
            self._announce(decision, before, now)
            if not isinstance(decision, Adopt):
                return

    def _hang_up(self, lost: Set[str]) -> None:
        """On launchers that were given up: the kernel would keep the connection of one without power for ever."""
        for member_id in lost:
            writer = self._writers.get(member_id)
            if writer is not None:
                writer.transport.abort()

    def _announce(self, decision: Decision, before: Round | None, now: float) -> None:
        if not isinstance(decision, Wait):
            self._why_until = -math.inf
        match decision:
            case Form():
                self._start_round(before)
            case Stop(members=members, save=save, reason=reason, message=text):
                how = "save and stop" if save else "stop at once"
                self._log(f"{reason}: {text}; {len(members)} nodes {how}")
                for member_id in members:
                    claim = self._seen.members[member_id].claim
                    round_id = claim.id if claim is not None else ""
                    stop = messages.StopWorkers(round=round_id, save=save, reason=reason, message=text)
                    self._tell(member_id, messages.line_of(stop))
            case Finish(exit_code=exit_code, reason=reason, message=text):
                self._log(f"over with exit code {exit_code}: {text}")
                over = messages.line_of(messages.Over(exit_code=exit_code, reason=reason, message=text))
                for member_id in self._seen.members:
                    self._tell(member_id, over)
            case Wait(why=why):
                waiting = [member.id for member in self._seen.members.values() if member.ready_at is not None]
                if why != self._why and now >= self._why_until:
                    self._why, self._why_until = why, now + _NEWS_SECONDS if waiting else now
                self._log(self._why)
                line = messages.line_of(messages.Waiting(why=self._why))
                for member_id in waiting:
                    self._tell(member_id, line)
            case Adopt():
                self._log(f"took over round {decision.round.number} of {len(decision.round.seats)} nodes")

    def _start_round(self, before: Round | None) -> None:
        current, members = self._seen.round, self._seen.members
        assert current is not None
        world_size = sum(members[seat].slots for seat in current.seats)
        previous: dict[str, Any] | None = None
        if before is not None:
            why = cause(before)
            reason = why.reason or Reason.SCALED
            previous = {"reason": reason, "counted": why.end is End.FAILED, "message": why.message}
        self.status.round_formed(previous["reason"] if previous else None)
        hosts = ", ".join([members[seat].host for seat in current.seats[:_HOSTS_LOGGED]])
        more = len(current.seats) - _HOSTS_LOGGED
        hosts += f" and {more} more" if more > 0 else ""
        self._log(f"round {current.number}: {len(current.seats)} nodes, {world_size} workers ({hosts})")
        start = messages.Start(
            round=current.id,
            number=current.number,
            seats=current.seats,
            first_rank=0,
            world_size=world_size,
            endpoint=members[current.seats[0]].endpoint,
            previous_end=previous,
        )
        first_rank = 0
        for seat in current.seats:
            # Not checked anew for each: it names all of them.
            self._tell(seat, messages.line_of(start.model_copy(update={"first_rank": first_rank})))
            first_rank += members[seat].slots

    def _log(self, text: str) -> None:
        """Each decision once: it is made again as long as nothing changes."""
        if text != self._logged:
            self._logged = text
            logger.info(text)

    def _tell(self, member_id: str, line: bytes) -> None:
        """Send, unless it was the last thing said; what a broken connection swallows is decided again."""
        writer = self._writers.get(member_id)
        if writer is None or self._told.get(member_id) == line:
            return
        self._told[member_id] = line
        writer.write(line)


def _rules(hello: Hello, silent_seconds: float) -> Rules:
    return Rules(
        min_nodes=hello.min_nodes,
        max_nodes=hello.max_nodes,
        budget_failures=hello.budget_failures,
        budget_window_seconds=hello.budget_window_seconds,
        silent_seconds=silent_seconds,
    )


def _refused(message: str, *, later: bool = False) -> Refused:
    return Refused(exit_code=EXIT_USER_ERROR, message=message, later=later)


async def _line(reader: asyncio.StreamReader) -> bytes:
    """The next whole line; b"" at the end. A line cut off by the end is no line."""
    line = await reader.readline()
    return line if line.endswith(b"\n") else b""
