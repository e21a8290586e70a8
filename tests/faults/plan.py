"""What befalls a run: a plan drawn from a seed, and nothing but the seed. Pure.

A plan is a setting (machines, store, clocks) and moments at which one fault or two at once happen. The first fault's
kind goes round through all kinds with the seed, so that any few dozen consecutive seeds meet every kind.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from enum import StrEnum

STEPS = 60
SAVE_EVERY_STEPS = 10
EVALUATE_EVERY_STEPS = 15
# Later, a fault could come when the run is over.
LAST_MOMENT_STEP = 44
_MOST_RANKS = 3
_LONGEST_PAUSE_SECONDS = 6.0


class Kind(StrEnum):
    """What happens."""

    KILL_WORKER = "SIGKILL of a worker"
    TERM_WORKER = "SIGTERM to a worker"
    STOP_WORKER = "SIGSTOP of a worker"
    KILL_LAUNCHER = "SIGKILL of a launcher"
    TERM_LAUNCHER = "SIGTERM to a launcher"
    STOP_LAUNCHER = "SIGSTOP of a launcher"
    POWER_OFF = "a machine loses its power"
    FREEZE = "a machine freezes"
    TERM_ALL = "SIGTERM to all machines"
    JOIN = "a machine joins"
    KILL_COORDINATOR = "SIGKILL of the coordinator"
    TERM_COORDINATOR = "SIGTERM to the coordinator"
    STOP_COORDINATOR = "SIGSTOP of the coordinator"
    STORE_DOWN = "the store hangs up"
    STORE_ERRORS = "the store answers 500"
    STORE_SLOW = "the store is slow"
    STORE_CUT = "bodies are cut in half"
    STORE_LOST = "answers to writes are lost"
    STORE_DENIED = "the store denies"
    STORE_STALE = "listings are stale"
    DISK_FULL = "the disk is full"
    DISK_READ_ONLY = "the disk is read-only"
    FLIP_CHECKPOINT = "a bit flips in the newest checkpoint, all machines lose their power"
    FLIP_SHARD = "a bit flips in a shard, all machines lose their power"
    NETWORK_LOSS = "a machine's network is cut"
    # On a cluster only.
    DELETE_WORKER = "a worker's pod is deleted"
    REMOVE_WORKER = "a worker's pod is deleted by force"
    DELETE_COORDINATOR = "the coordinator's pod is deleted"
    REMOVE_COORDINATOR = "the coordinator's pod is deleted by force"
    NODE_LOSS = "a node loses its power"
    COORDINATOR_NODE_LOSS = "the coordinator's node loses its power"
    NODE_CUT = "a node's network is cut"
    DRAIN = "a node is drained"
    PREEMPT = "a pod of a higher priority takes the room"
    SCALE_STORM = "the job is scaled up and down within seconds"
    KILL_OPERATOR = "SIGKILL of the operator"
    STOP_OPERATOR = "SIGSTOP of the operator"
    KILL_JOB_CONTROLLER = "SIGKILL of the training operator"
    STOP_JOB_CONTROLLER = "SIGSTOP of the training operator"
    API_AWAY = "the API server is away"
    DNS_AWAY = "DNS is away"
    STORE_AWAY = "the S3 server is away"


class When(StrEnum):
    """At which point of the run."""

    STEP = "at a step"
    START = "while workers start"
    SAVE = "during a save"
    LOAD = "during a load"
    EVALUATION = "during an evaluation"


class Store(StrEnum):
    """Where checkpoints are."""

    DISK = "disk"
    S3 = "s3"


COORDINATOR = frozenset({Kind.KILL_COORDINATOR, Kind.TERM_COORDINATOR, Kind.STOP_COORDINATOR})
OF_STORE = frozenset(kind for kind in Kind if kind.name.startswith("STORE_")) - {Kind.STORE_AWAY}
"""What a proxy before the store does."""
OF_DISK = frozenset({Kind.DISK_FULL, Kind.DISK_READ_ONLY})
SEVERAL = frozenset({Kind.NETWORK_LOSS, Kind.FREEZE, Kind.STOP_LAUNCHER, Kind.JOIN}) | COORDINATOR
"""Kinds that need a coordinator of its own process."""
ENDS_ALL = frozenset({Kind.TERM_ALL, Kind.FLIP_CHECKPOINT, Kind.FLIP_SHARD})
OF_NODE = frozenset({Kind.NODE_LOSS, Kind.COORDINATOR_NODE_LOSS, Kind.NODE_CUT, Kind.DRAIN})
AWAY = frozenset(kind for kind in Kind if kind.name.endswith("_AWAY"))
OF_OPERATORS = frozenset(kind for kind in Kind if kind.name.endswith(("_OPERATOR", "_JOB_CONTROLLER")))
CLUSTER_ONLY = (
    OF_NODE
    | AWAY
    | OF_OPERATORS
    | {Kind.DELETE_WORKER, Kind.REMOVE_WORKER, Kind.DELETE_COORDINATOR, Kind.REMOVE_COORDINATOR}
    | {Kind.PREEMPT, Kind.SCALE_STORM}
)
LOCAL = tuple(kind for kind in Kind if kind not in CLUSTER_ONLY)
LASTING = (
    COORDINATOR
    | OF_STORE
    | OF_DISK
    | OF_NODE
    | AWAY
    | {Kind.STOP_OPERATOR, Kind.STOP_JOB_CONTROLLER, Kind.PREEMPT, Kind.SCALE_STORM}
    | {Kind.STOP_WORKER, Kind.STOP_LAUNCHER, Kind.FREEZE, Kind.NETWORK_LOSS}
)
"""Kinds that are mended after `Fault.seconds`."""


@dataclass(frozen=True)
class Fault:
    """One fault."""

    kind: Kind
    target: int
    """Which machine, worker or file, counted among those that are there."""
    seconds: float
    """How long it lasts, where it is one that passes."""

    @property
    def lasts(self) -> str:
        """For people; nothing for a fault of a moment."""
        if self.kind not in LASTING:
            return ""
        return ", for good" if self.for_good else f", {self.seconds:g} s"

    @property
    def for_good(self) -> bool:
        """Whether only the run itself can mend it: a worker that stands still longer has to be taken for hung."""
        return self.kind is Kind.STOP_WORKER and self.seconds > _LONGEST_PAUSE_SECONDS


@dataclass(frozen=True)
class Moment:
    """When what happens, at once."""

    when: When
    step: int
    """Not before this step has been taken."""
    faults: tuple[Fault, ...]


@dataclass(frozen=True)
class Plan:
    """One run and what befalls it."""

    seed: int
    machines: int
    fixed: bool
    """Whether the run waits until all machines are there: then its world has one size, and its losses are compared
    bit by bit."""
    ranks_per_machine: int
    coordinator: bool
    """Whether it is a process of its own; else the one machine's launcher has one inside."""
    store: Store
    data_from_store: bool
    asynchronous: bool
    dropout: float
    clocks_seconds: tuple[int, ...]
    """How far the wall clock of each machine is ahead."""
    namespaces: bool
    """Whether every machine has a network of its own."""
    moments: tuple[Moment, ...]

    @property
    def kinds(self) -> frozenset[Kind]:
        return frozenset(fault.kind for moment in self.moments for fault in moment.faults)

    @property
    def ranks(self) -> int:
        return self.machines * self.ranks_per_machine

    def lines(self) -> list[str]:
        """For people."""
        where = f"{self.machines} x {self.ranks_per_machine} ranks" + (", fixed" if self.fixed else ", elastic")
        parts = [
            where,
            "coordinator" if self.coordinator else "no coordinator process",
            f"store on {self.store}",
            *(["data from the store"] if self.data_from_store else []),
            *([] if self.asynchronous else ["saves wait"]),
            *(["network namespaces"] if self.namespaces else []),
            *([f"clocks {self.clocks_seconds} s ahead"] if any(self.clocks_seconds) else []),
        ]
        return [f"seed {self.seed}: {', '.join(parts)}"] + [
            f"  from step {moment.step}, {moment.when}: "
            + " and ".join(f"{fault.kind} (#{fault.target}{fault.lasts})" for fault in moment.faults)
            for moment in self.moments
        ]


def draw(seed: int) -> Plan:
    """The plan of a seed on this machine; tests/faults/cluster_plan.py has those of a cluster."""
    chance = random.Random(seed)
    first = LOCAL[seed % len(LOCAL)]
    several = first in SEVERAL or chance.random() < 0.6
    machines = chance.randint(2, _MOST_RANKS) if several else 1
    fixed = chance.random() < 0.4
    if first is Kind.JOIN:
        fixed = False
    ranks_per_machine = 1 if machines > 1 else chance.randint(1, 2)
    coordinator = machines > 1
    store = Store.S3 if first in OF_STORE | {Kind.FLIP_SHARD} else chance.choice(tuple(Store))
    if first in OF_DISK:
        store = Store.DISK
    data_from_store = first is Kind.FLIP_SHARD or (store is Store.S3 and chance.random() < 0.5)
    namespaces = first is Kind.NETWORK_LOSS
    skewed = machines > 1 and chance.random() < 0.25
    allowed = _allowed(store, coordinator=coordinator, data_from_store=data_from_store, fixed=fixed)
    moments = []
    for number in range(chance.choice((1, 1, 2))):
        kind = first if number == 0 else chance.choice(allowed)
        faults = [_fault(kind, chance)]
        if chance.random() < 0.35 and kind not in ENDS_ALL:
            faults.append(_fault(chance.choice([other for other in allowed if other not in ENDS_ALL]), chance))
        moments.append(Moment(_when(kind, chance), 0, tuple(faults)))
    steps = sorted(chance.randint(3, LAST_MOMENT_STEP) for _ in moments)
    return Plan(
        seed=seed,
        machines=machines,
        fixed=fixed,
        ranks_per_machine=ranks_per_machine,
        coordinator=coordinator,
        store=store,
        data_from_store=data_from_store,
        asynchronous=chance.random() < 0.8,
        dropout=0.1 if fixed or machines == 1 else 0.0,
        clocks_seconds=tuple(chance.choice((-5, 0, 5)) if skewed else 0 for _ in range(machines)),
        namespaces=namespaces,
        moments=tuple(Moment(moment.when, step, moment.faults) for moment, step in zip(moments, steps, strict=True)),
    )


def _allowed(store: Store, *, coordinator: bool, data_from_store: bool, fixed: bool) -> list[Kind]:
    """Kinds that this setting can have as its second and third."""
    out: set[Kind] = {Kind.NETWORK_LOSS, *ENDS_ALL} - {Kind.TERM_ALL}
    out |= OF_DISK if store is Store.S3 else OF_STORE
    if not coordinator:
        out |= SEVERAL
    if fixed:
        out.add(Kind.JOIN)
    return [kind for kind in LOCAL if kind not in out]


def _fault(kind: Kind, chance: random.Random) -> Fault:
    longest = 1.5 * _LONGEST_PAUSE_SECONDS if kind is Kind.STOP_WORKER else 4.0
    return Fault(kind, target=chance.randrange(3), seconds=round(chance.uniform(0.5, longest), 1))


def _when(kind: Kind, chance: random.Random) -> When:
    """Weighted to the middle of training; what ends all machines comes at a step."""
    if kind in ENDS_ALL | {Kind.JOIN}:
        return When.STEP
    return chance.choice((When.STEP, When.STEP, *When))
