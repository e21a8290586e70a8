"""A coordinator and its launchers in discrete time, for tests: real decisions, simulated machines and network.

One tick is a tenth of a second. Messages of one connection keep their order and take up to a few ticks; a launcher can
be killed, frozen, told to leave, lose its workers or its connection; the coordinator can be replaced by a new one.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from random import Random

from trainer.elastic import roster
from trainer.elastic.rounds import Adopt, End, Finish, Form, Member, Round, Rules, SeatEnd, Seen, Stop, decide

TICK_SECONDS = 0.1
BEAT_TICKS = 3
RECONNECT_TICKS = 2


@dataclass
class Simulated:
    """A launcher and its workers."""

    id: str
    slots: int = 1
    ready_at_tick: int = 0
    round: Round | None = None
    """The round that its workers are in."""
    ends_at_tick: int | None = None
    """When its workers will have ended, once something ends them."""
    how: End = End.PREEMPTED
    ready: bool = False
    ended: tuple[Round, End] | None = None
    """How its workers of the last round ended; said again on a new connection."""
    killed: bool = False
    frozen: bool = False
    leaving: bool = False
    gone: bool = False
    connected: bool = False
    reconnect_at_tick: int = 0
    took_step: bool = False
    to_coordinator: list[tuple[int, tuple[object, ...]]] = field(default_factory=list)
    to_launcher: list[tuple[int, object]] = field(default_factory=list)

    @property
    def healthy(self) -> bool:
        return not (self.killed or self.frozen or self.gone)


class Cluster:
    """Everything that a test looks at."""

    def __init__(self, rules: Rules, random: Random, *, hold_seconds: float = 0.0) -> None:
        self.rules = rules
        self.random = random
        self.tick = 0
        self.launchers: dict[str, Simulated] = {}
        self.seen = Seen(hold_until=hold_seconds, rules=rules)
        self.formed: list[Round] = []
        self.stops: list[tuple[int, Stop]] = []
        self.flagged: set[str] = set()
        self.verdict: Finish | None = None

    @property
    def now(self) -> float:
        return self.tick * TICK_SECONDS

    # What happens to machines -------------------------------------------------------------------------------------

    def add(self, launcher_id: str) -> None:
        self.launchers[launcher_id] = Simulated(launcher_id, ready_at_tick=self.tick + self.random.randint(0, 5))

    def kill(self, launcher_id: str) -> None:
        """Power loss of the process: its connection closes at once."""
        launcher = self.launchers[launcher_id]
        launcher.killed, launcher.round = True, None
        self._disconnect(launcher)

    def freeze(self, launcher_id: str) -> None:
        self.launchers[launcher_id].frozen = True

    def thaw(self, launcher_id: str) -> None:
        self.launchers[launcher_id].frozen = False

    def drop_connection(self, launcher_id: str) -> None:
        self._disconnect(self.launchers[launcher_id])

    def tell_to_leave(self, launcher_id: str) -> None:
        launcher = self.launchers[launcher_id]
        if not launcher.leaving:
            launcher.leaving = True
            self._send(launcher, "leaving")
            if launcher.round is not None:
                self.flagged.add(launcher.round.id)

    def fail_workers(self, launcher_id: str) -> None:
        launcher = self.launchers[launcher_id]
        if launcher.round is not None and launcher.ends_at_tick is None:
            launcher.ends_at_tick, launcher.how = self.tick, End.FAILED

    def replace_coordinator(self, hold_seconds: float) -> None:
        self.seen = Seen(hold_until=self.now + hold_seconds, rules=self.rules)
        for launcher in self.launchers.values():
            self._disconnect(launcher)

    # Time ------------------------------------------------------------------------------------------

    def run(self, ticks: int) -> None:
        for _ in range(ticks):
            self.step()

    def step(self) -> None:
        self.tick += 1
        for launcher in self.launchers.values():
            if launcher.healthy:
                self._live(launcher)
        for launcher in self.launchers.values():
            self._deliver(launcher)
        self._decide()

    def _live(self, launcher: Simulated) -> None:
        if not launcher.connected and self.tick >= launcher.reconnect_at_tick and self.tick >= launcher.ready_at_tick:
            launcher.connected = True
            launcher.to_coordinator.clear()
            launcher.to_launcher.clear()
            ended = launcher.ended if not launcher.ready else None
            self._send(launcher, "hello", ended[0] if ended else launcher.round, launcher.took_step)
            if ended is not None:
                self._send(launcher, "ended", ended[0].id, ended[1])
            if launcher.leaving:
                self._send(launcher, "leaving")
            if launcher.ready:
                self._send(launcher, "ready")
        while launcher.to_launcher and launcher.to_launcher[0][0] <= self.tick:
            self._obey(launcher, launcher.to_launcher.pop(0)[1])
        self._train(launcher)
        if launcher.round is None and launcher.leaving:
            self._send(launcher, "bye")
            launcher.gone = True
            return
        if launcher.round is None and not launcher.ready and self.tick >= launcher.ready_at_tick:
            launcher.ready = True
            self._send(launcher, "ready")
        if self.tick % BEAT_TICKS == 0:
            self._send(launcher, "beat", launcher.took_step)

    def _obey(self, launcher: Simulated, decision: object) -> None:
        if isinstance(decision, Round):
            launcher.round, launcher.ready, launcher.took_step, launcher.ended = decision, False, False, None
            launcher.ends_at_tick = None
        elif isinstance(decision, tuple):
            round_id, stop = decision
            if launcher.round is None or launcher.round.id != round_id:
                self._send(launcher, "ended", round_id, End.STOPPED)
            elif not stop.save:
                launcher.ends_at_tick, launcher.how = self.tick + self.random.randint(0, 2), End.STOPPED
            else:
                self.flagged.add(round_id)
        elif isinstance(decision, Finish):
            launcher.round, launcher.gone = None, True

    def _train(self, launcher: Simulated) -> None:
        """The flag of one worker ends the step of all: if all are there. A peer that died may be felt or hung on."""
        current = launcher.round
        if current is None:
            return
        peers = [self.launchers[seat] for seat in current.seats]
        together = all(peer.healthy and peer.round is not None and peer.round.id == current.id for peer in peers)
        if launcher.ends_at_tick is None:
            if together and current.id in self.flagged:
                ends_at = self.tick + self.random.randint(1, 6)
                for peer in peers:
                    if peer.ends_at_tick is None:
                        peer.ends_at_tick, peer.how = ends_at, End.PREEMPTED
            elif together:
                launcher.took_step = True
            elif launcher.took_step and self.random.random() < 0.05:
                launcher.ends_at_tick, launcher.how = self.tick, End.FAILED
        if launcher.ends_at_tick is not None and self.tick >= launcher.ends_at_tick:
            self._send(launcher, "ended", current.id, launcher.how)
            launcher.ended = (current, launcher.how)
            launcher.round, launcher.ends_at_tick = None, None
            launcher.ready_at_tick = self.tick + self.random.randint(0, 3)

    # Network and coordinator ------------------------------------------------------------------------------------------

    def _send(self, launcher: Simulated, *message: object) -> None:
        if launcher.connected:
            last = launcher.to_coordinator[-1][0] if launcher.to_coordinator else 0
            launcher.to_coordinator.append((max(last, self.tick + self.random.randint(0, 2)), message))

    def _tell(self, launcher_id: str, message: object) -> None:
        launcher = self.launchers[launcher_id]
        if launcher.connected:
            last = launcher.to_launcher[-1][0] if launcher.to_launcher else 0
            launcher.to_launcher.append((max(last, self.tick + 1 + self.random.randint(0, 2)), message))

    def _disconnect(self, launcher: Simulated) -> None:
        if launcher.connected:
            launcher.connected = False
            launcher.reconnect_at_tick = self.tick + RECONNECT_TICKS
            launcher.to_coordinator.clear()
            launcher.to_launcher.clear()
            self.seen = roster.disconnected(self.seen, launcher.id, self.now)

    def _deliver(self, launcher: Simulated) -> None:
        while launcher.to_coordinator and launcher.to_coordinator[0][0] <= self.tick:
            kind, *rest = launcher.to_coordinator.pop(0)[1]
            if kind == "hello":
                claim, took_step = rest
                claim = replace(claim, ends={}, first_step=took_step) if claim is not None else None
                member = Member(launcher.id, launcher.id, launcher.slots, self.now, self.now, claim=claim)
                self.seen = roster.hello(self.seen, member)
            elif launcher.id not in self.seen.members:
                self._disconnect(launcher)  # given up for lost: the coordinator hangs up
            elif kind == "ready":
                self.seen = roster.ready(self.seen, launcher.id, "host:1", self.now)
            elif kind == "beat":
                self.seen = roster.beat(self.seen, launcher.id, self.now, step=0, took_step=rest[0])
            elif kind == "leaving":
                self.seen = roster.leaving(self.seen, launcher.id)
            elif kind == "ended":
                self.seen = roster.ended(self.seen, launcher.id, rest[0], SeatEnd(rest[1], self.now))
            elif kind == "bye":
                self.seen = roster.left(self.seen, launcher.id)

    def _decide(self) -> None:
        while True:
            self.seen = roster.settle(self.seen, self.now)
            decision = decide(self.seen, self.now)
            if isinstance(decision, Form):
                self.check_no_workers_left(decision)
            self.seen = roster.carry_out(
                self.seen, decision, self.now, round_id=f"{self.tick}-{self.random.randint(0, 10**9)}"
            )
            if not isinstance(decision, Adopt):
                break
        if isinstance(decision, Form):
            assert self.seen.round is not None
            self.formed.append(self.seen.round)
            for seat in decision.seats:
                self._tell(seat, self.seen.round)
        elif isinstance(decision, Stop):
            self.stops.append((self.tick, decision))
            for seat in decision.members:
                claim = self.seen.members[seat].claim
                if claim is not None and not self._told(seat, claim.id, decision):
                    self._tell(seat, (claim.id, decision))
        elif isinstance(decision, Finish) and self.verdict is None:
            self.verdict = decision
            for member_id in self.seen.members:
                self._tell(member_id, decision)

    def _told(self, seat: str, round_id: str, stop: Stop) -> bool:
        return (round_id, stop) in [message for _, message in self.launchers[seat].to_launcher]

    def check_no_workers_left(self, decision: Form) -> None:
        """Two worlds never at once: when one is formed, nobody who can still be reached has workers of another."""
        assert self.rules.min_nodes <= len(decision.seats) <= self.rules.max_nodes
        assert len(set(decision.seats)) == len(decision.seats)
        for launcher in self.launchers.values():
            if launcher.healthy and launcher.connected and launcher.id in self.seen.members:
                assert launcher.round is None, f"{launcher.id} still has workers of {launcher.round.id}"
