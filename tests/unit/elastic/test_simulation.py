"""The coordinator's decisions under random faults: never two worlds, and always one once the faults end."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.elastic.simulation import Cluster, Simulated
from trainer.elastic.rounds import End, Rules

RULES = Rules(min_nodes=2, max_nodes=4, budget_failures=10**6)
LAUNCHERS = ("a", "b", "c", "d", "e")
FAULTS = ("kill", "freeze", "thaw", "leave", "fail", "drop", "restart", "join", "restart-without-hold")


def start(random: Random, count: int = 3) -> Cluster:
    cluster = Cluster(RULES, random)
    for name in LAUNCHERS[:count]:
        cluster.add(name)
    cluster.run(60)
    return cluster


def training(cluster: Cluster) -> list[Simulated]:
    """The launchers of the one world that trains; fails if there is none or another."""
    current = cluster.seen.round
    assert current is not None
    assert set(current.running) == set(current.seats)
    members = [cluster.launchers[seat] for seat in current.seats]
    assert all(m.healthy and m.round is not None and m.round.id == current.id and m.took_step for m in members)
    others = [one for one in cluster.launchers.values() if one.healthy and one not in members]
    assert all(one.round is None for one in others)
    return members


@given(
    seed=st.integers(0, 2**32),
    faults=st.lists(st.tuples(st.integers(0, 25), st.sampled_from(FAULTS), st.integers(0, 4)), max_size=14),
)
@settings(max_examples=300, deadline=None)
def test_a_world_of_all_who_are_there_comes_back(seed: int, faults: list[tuple[int, str, int]]) -> None:
    cluster = start(Random(seed))
    fresh = 0
    for gap, fault, index in faults:
        cluster.run(gap)
        name = sorted(cluster.launchers)[index % len(cluster.launchers)]
        if fault == "join":
            fresh += 1
            cluster.add(f"n{fresh}")
        elif fault.startswith("restart"):
            cluster.replace_coordinator(5.0 if fault == "restart" else 0.0)
        elif cluster.launchers[name].killed or cluster.launchers[name].gone:
            continue
        else:
            {
                "kill": cluster.kill,
                "freeze": cluster.freeze,
                "thaw": cluster.thaw,
                "leave": cluster.tell_to_leave,
                "fail": cluster.fail_workers,
                "drop": cluster.drop_connection,
            }[fault](name)
    # Enough machines stay for a world; frozen ones come back, late.
    for number in range(RULES.min_nodes):
        cluster.add(f"z{number}")
    cluster.run(150)
    for launcher in cluster.launchers.values():
        launcher.frozen = False
    cluster.run(150)
    there = [one for one in cluster.launchers.values() if one.healthy and not one.leaving]
    assert len(training(cluster)) == min(len(there), RULES.max_nodes)
    stops = len(cluster.stops)
    cluster.run(100)
    assert len(cluster.stops) == stops


@given(seed=st.integers(0, 2**32))
@settings(max_examples=50, deadline=None)
def test_a_coordinator_that_is_replaced_disturbs_nothing(seed: int) -> None:
    cluster = start(Random(seed))
    before = [one.round for one in training(cluster)]
    cluster.replace_coordinator(5.0)
    cluster.run(100)
    assert [one.round for one in training(cluster)] == before
    assert not cluster.stops


@given(seed=st.integers(0, 2**32))
@settings(max_examples=50, deadline=None)
def test_a_stranger_that_comes_first_to_a_new_coordinator_forms_no_world(seed: int) -> None:
    random = Random(seed)
    cluster = start(random)
    rounds = len(cluster.formed)
    cluster.replace_coordinator(5.0)
    for launcher in cluster.launchers.values():
        launcher.reconnect_at_tick = cluster.tick + random.randint(10, 40)
    cluster.add("stranger")
    cluster.run(9)
    assert len(cluster.formed) == rounds
    cluster.run(150)
    assert {one.id for one in training(cluster)} == {"a", "b", "c", "stranger"}


@pytest.mark.parametrize("event", ["leave", "kill", "fail", "freeze"])
def test_the_others_go_on_soon(event: str) -> None:
    for seed in range(20):
        cluster = start(Random(seed))
        {"leave": cluster.tell_to_leave, "kill": cluster.kill, "fail": cluster.fail_workers, "freeze": cluster.freeze}[
            event
        ]("b")
        rounds, tick = len(cluster.formed), cluster.tick
        while len(cluster.formed) == rounds:
            cluster.step()
            assert cluster.tick < tick + 40
        cluster.run(10)
        assert len(training(cluster)) == (3 if event == "fail" else 2)


def test_all_told_to_stop_at_once_end_in_good_order() -> None:
    cluster = start(Random(1))
    for name in "abc":
        cluster.tell_to_leave(name)
    cluster.run(20)
    assert all(one.gone for one in cluster.launchers.values())
    assert not cluster.seen.members
    assert {end.end for end in cluster.seen.round.ends.values()} == {End.PREEMPTED} if cluster.seen.round else False
