"""Plans for a Kubernetes cluster: the kinds that it can play, what each needs of its setting, and how long each lasts.

Pure, like `tests.faults.plan`, and apart from it, so that what either place can play changes no plan of the other.
"""

from __future__ import annotations

import random

from tests.faults.plan import (
    AWAY,
    CLUSTER_ONLY,
    COORDINATOR,
    LAST_MOMENT_STEP,
    LASTING,
    OF_NODE,
    OF_OPERATORS,
    Fault,
    Kind,
    Moment,
    Plan,
    Store,
    When,
)

KINDS = tuple(
    kind
    for kind in Kind
    if kind in CLUSTER_ONLY | COORDINATOR
    or kind in {Kind.KILL_WORKER, Kind.TERM_WORKER, Kind.STOP_WORKER, Kind.KILL_LAUNCHER, Kind.TERM_LAUNCHER}
    or kind in {Kind.STOP_LAUNCHER, Kind.FREEZE, Kind.TERM_ALL, Kind.NETWORK_LOSS}
    or kind in {Kind.STORE_ERRORS, Kind.STORE_LOST, Kind.STORE_DENIED}
)
# Each has the cluster's one spare node, or the room on it, to itself.
_OF_ROOM = OF_NODE | {Kind.PREEMPT}
# Done by the API server, or by somebody who asks it first.
_ASKED_FOR = (
    OF_NODE
    | OF_OPERATORS
    | {Kind.TERM_ALL, Kind.SCALE_STORM, Kind.PREEMPT}
    | {kind for kind in KINDS if kind.name.startswith(("DELETE_", "REMOVE_"))}
)
# A node comes back before or after its pods are given up; launchers that stand still are taken for lost after a while.
_LASTS_SECONDS = {
    **dict.fromkeys(LASTING, (0.5, 6.0)),
    **dict.fromkeys(AWAY, (5.0, 30.0)),
    **dict.fromkeys((Kind.NODE_LOSS, Kind.COORDINATOR_NODE_LOSS, Kind.NODE_CUT), (3.0, 60.0)),
    **dict.fromkeys((Kind.STOP_LAUNCHER, Kind.FREEZE, Kind.STOP_COORDINATOR), (0.5, 40.0)),
    Kind.STOP_WORKER: (0.5, 9.0),
    **dict.fromkeys((Kind.STOP_OPERATOR, Kind.STOP_JOB_CONTROLLER, Kind.NETWORK_LOSS), (2.0, 30.0)),
    Kind.DRAIN: (20.0, 40.0),
    Kind.PREEMPT: (5.0, 20.0),
    Kind.SCALE_STORM: (2.0, 8.0),
}
_MOST_MACHINES = 3


def draw(seed: int) -> Plan:
    """The plan of a seed on a cluster."""
    chance = random.Random(f"cluster {seed}")
    first = KINDS[seed % len(KINDS)]
    machines = 2 if first is Kind.PREEMPT else chance.choice((2, 2, _MOST_MACHINES))
    fixed = first is not Kind.SCALE_STORM and chance.random() < 0.4
    moments = []
    kinds: set[Kind] = set()
    for number in range(chance.choice((1, 1, 2))):
        kind = first if number == 0 else chance.choice(_allowed(kinds, fixed=fixed))
        kinds.add(kind)
        faults = [_fault(kind, chance)]
        if chance.random() < 0.35 and kind is not Kind.TERM_ALL:
            other = chance.choice([one for one in _allowed(kinds, fixed=fixed) if one is not Kind.TERM_ALL])
            kinds.add(other)
            faults.append(_fault(other, chance))
        when = When.STEP if kind is Kind.TERM_ALL else chance.choice((When.STEP, When.STEP, When.STEP, *When))
        moments.append(Moment(when, 0, tuple(faults)))
    steps = sorted(chance.randint(3, LAST_MOMENT_STEP) for _ in moments)
    return Plan(
        seed=seed,
        machines=machines,
        fixed=fixed,
        ranks_per_machine=1,
        coordinator=True,
        store=Store.S3,
        data_from_store=True,
        asynchronous=chance.random() < 0.8,
        dropout=0.1 if fixed else 0.0,
        clocks_seconds=(0,) * machines,
        namespaces=False,
        moments=tuple(Moment(moment.when, step, moment.faults) for moment, step in zip(moments, steps, strict=True)),
    )


def _allowed(kinds: set[Kind], *, fixed: bool) -> list[Kind]:
    """Kinds that a setting can have beside these."""
    # The setting is made for the first kind: room to take, or a coordinator on the node that may go.
    out: set[Kind] = {Kind.PREEMPT, Kind.COORDINATOR_NODE_LOSS, *kinds}
    if kinds & _OF_ROOM:
        out |= _OF_ROOM
    if fixed or Kind.PREEMPT in kinds:
        out.add(Kind.SCALE_STORM)
    if Kind.API_AWAY in kinds:
        out |= _ASKED_FOR
    if kinds & _ASKED_FOR:
        out.add(Kind.API_AWAY)
    return [kind for kind in KINDS if kind not in out]


def _fault(kind: Kind, chance: random.Random) -> Fault:
    return Fault(kind, chance.randrange(3), round(chance.uniform(*_LASTS_SECONDS.get(kind, (0.0, 0.0))), 1))
