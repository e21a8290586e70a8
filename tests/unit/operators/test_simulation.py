"""Decisions in a little cluster under random faults, old news and an operator that dies at any point.

Never: a size out of bounds, a forced delete of what answers, a thing done twice, a charge for what is no failure.
Always, once the faults end: the run trains at the size that is wanted, or a condition says why not; and nothing more is
done then.
"""

from __future__ import annotations

from itertools import pairwise
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from operators.actions import ActionReason, Scale, Suspend
from operators.api import JobKind
from operators.decide import decide
from tests.unit.operators.schedules import (
    ENDS,
    FAULTS,
    FOLLOW,
    SPEC,
    Schedule,
    calm,
    check_actions,
    check_end,
    strike,
    suffer,
)
from tests.unit.operators.simulation import MOST_LAG, Cluster


def schedules(faults: tuple[str, ...], gap: int = 12) -> st.SearchStrategy[Schedule]:
    return st.lists(st.tuples(st.integers(0, gap), st.sampled_from(faults), st.integers(0, 10)), max_size=24)


def come_through(cluster: Cluster, faults: Schedule) -> None:
    """The faults, then none: nothing that must not be is done, and in the end nothing at all."""
    suffer(cluster, faults)
    calm(cluster)
    cluster.run_for(60)
    before = len(cluster.did)
    cluster.run_for(70)
    check_actions(cluster.did)
    check_end(cluster)
    follows = cluster.run.spec.elastic.capacity.enabled
    assert len([one for one in cluster.did[before:] if isinstance(one.action, Scale)]) <= (2 if follows else 0)
    quiet = cluster.tick - 40
    if not follows:
        assert not [tick for tick in cluster.tries if tick > quiet]
        # As failures fall out of the window.
        assert len([tick for tick in cluster.writes if tick > quiet]) <= cluster.run.spec.restart.failures + 1
    assert not [one for one in cluster.did if one.tick > quiet and not isinstance(one.action, Scale)]


@given(
    seed=st.integers(0, 2**32),
    follow=st.booleans(),
    queue=st.booleans(),
    kind=st.sampled_from(JobKind),
    faults=schedules(FAULTS),
)
@settings(max_examples=150, deadline=None)
def test_a_run_comes_through(seed: int, follow: bool, queue: bool, kind: JobKind, faults: Schedule) -> None:
    spec = SPEC | (FOLLOW if follow else {})
    come_through(Cluster(decide, Random(seed), spec=spec, queue="q" if queue else None, kind=kind), faults)


OLD_NEWS = ("lag", "stall-operator", "die-between", "kill-operator")
WISHES = (
    *(*OLD_NEWS, "suspend", "go-on", "suspend", "go-on", "suspend-job", "resume-job", "meddle", "scale"),
    *("tell-suspend", "tell-resume"),
)


@given(seed=st.integers(0, 2**32), lag=st.integers(0, MOST_LAG), faults=schedules(WISHES, gap=4))
@settings(max_examples=60, deadline=None)
def test_wishes_come_and_go(seed: int, lag: int, faults: Schedule) -> None:
    come_through(Cluster(decide, Random(seed), spec=SPEC, lag=lag), faults)


SILENCE = ("lag", "stall-operator", "freeze", "freeze", "freeze", "remove", "lose", "give-back")


@given(seed=st.integers(0, 2**32), lag=st.integers(0, MOST_LAG), faults=schedules(SILENCE, gap=4))
@settings(max_examples=60, deadline=None)
def test_launchers_fall_silent(seed: int, lag: int, faults: Schedule) -> None:
    come_through(Cluster(decide, Random(seed), spec=SPEC, lag=lag), faults)


ROOM = (*OLD_NEWS, "take-room", "free-room", "free-room", "refuse", "scale", "no-wish", "scale-job", "bounds")


@given(seed=st.integers(0, 2**32), lag=st.integers(0, MOST_LAG), faults=schedules(ROOM))
@settings(max_examples=60, deadline=None)
def test_room_comes_and_goes(seed: int, lag: int, faults: Schedule) -> None:
    come_through(Cluster(decide, Random(seed), spec=SPEC | FOLLOW, lag=lag), faults)


WHAT_ENDS = (*ENDS, *ENDS, *("suspend", "go-on", "fail", "scale", "lag", "kill-operator", "stall-operator", "lose"))


@given(seed=st.integers(0, 2**32), queue=st.booleans(), faults=schedules(WHAT_ENDS))
@settings(max_examples=60, deadline=None)
def test_jobs_end_and_are_made_anew(seed: int, queue: bool, faults: Schedule) -> None:
    come_through(Cluster(decide, Random(seed), spec=SPEC, queue="q" if queue else None), faults)


BUDGET_FAULTS = (
    *("fail", "fail-again", "fail-again", "free", "remove", "lose", "give-back", "reboot", "scale-job"),
    *("lag", "no-lag", "clock", "kill-operator", "die-between"),
)


@given(
    seed=st.integers(0, 2**32),
    failures=st.integers(0, 2),
    lag=st.integers(0, MOST_LAG),
    faults=schedules(BUDGET_FAULTS),
)
@settings(max_examples=100, deadline=None)
def test_the_budget_is_never_overrun(seed: int, failures: int, lag: int, faults: Schedule) -> None:
    budget = {"restart": {"failures": failures, "windowSeconds": 600}}
    cluster = Cluster(decide, Random(seed), spec=SPEC | budget, lag=lag)
    cluster.run_for(10)
    for gap, fault, number in faults:
        strike(cluster, fault, number)
        for _ in range(gap):
            cluster.step()
            # So long at most: the operator is away, comes back, and sees old news.
            assert cluster.overdrawn <= 10 + 2 * MOST_LAG
    cluster.lag = 0
    cluster.run_for(20)
    spent = [one for one in cluster.did if isinstance(one.action, Suspend)]
    assert len(spent) <= 1
    assert cluster.job.suspend == bool(spent)
    assert (cluster.run.status.phase == "Failed") == bool(spent)
    assert cluster.overdrawn == 0


@pytest.mark.parametrize("lag", [0, MOST_LAG])
def test_room_that_is_none_is_tried_ever_more_rarely(lag: int) -> None:
    cluster = Cluster(decide, Random(lag), spec=SPEC | FOLLOW, lag=lag)
    for name in ("n2", "n3", "n4"):
        cluster.machines[name].refuses = True
    cluster.run_for(4000)
    check_actions(cluster.did)
    growths = [one.tick for one in cluster.did if one.action.reason is ActionReason.ROOM_APPEARED]
    gaps = [after - before for before, after in pairwise(growths)]
    assert len(growths) >= 5
    assert all(after + 2 * lag > before or after >= 700 for before, after in pairwise(gaps)), gaps
    assert len(growths) <= 14


@pytest.mark.parametrize("chatter", [0.0, 0.1], ids=["quiet", "chatter"])
@pytest.mark.parametrize("seed", range(3))
def test_all_room_is_taken_soon_and_then_nothing_more_is_done(seed: int, chatter: float) -> None:
    cluster = Cluster(decide, Random(seed), spec=SPEC | FOLLOW, chatter=chatter)
    cluster.edit(elastic=FOLLOW["elastic"] | {"capacity": {"enabled": True, "growSeconds": 120}})
    cluster.run_for(60)
    assert cluster.job.replicas == 8
    done = len(cluster.did)
    cluster.run_for(300)
    assert len(cluster.did) == done == 1


@pytest.mark.parametrize("chatter", [0.0, 0.1], ids=["quiet", "chatter"])
@pytest.mark.parametrize("seed", range(3))
def test_a_node_that_never_comes_back_holds_nobody_up(seed: int, chatter: float) -> None:
    cluster = Cluster(decide, Random(seed), spec=SPEC | {"nodeLoss": {"seconds": 30}}, chatter=chatter)
    cluster.run_for(20)
    node = next(unit.pod.node for unit in cluster.units.values())
    assert node is not None
    cluster.lose(node, dead=True)
    cluster.run_for(10)
    assert all(unit.pod.node != node for unit in cluster.units.values())
    cluster.run_for(10)
    check_actions(cluster.did)
    assert sum(unit.pod.running_since is not None for unit in cluster.units.values()) == 3
    assert not cluster.run.status.failures.times


def test_a_quiet_run_is_looked_at_rarely() -> None:
    cluster = Cluster(decide, Random(1), spec=SPEC)
    cluster.run_for(30)
    decisions = cluster.decisions
    cluster.run_for(1000)
    assert cluster.decisions - decisions <= 150  # one for each time that the job's controller writes
