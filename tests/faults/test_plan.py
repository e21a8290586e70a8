"""Plans: a pure function of the seed, every kind within a few dozen seeds, nothing that a setting cannot have."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.faults import __main__ as campaign
from tests.faults import cluster_plan
from tests.faults.cluster import OnCluster
from tests.faults.cluster_faults import APPLY
from tests.faults.plan import COORDINATOR, LOCAL, OF_DISK, OF_STORE, SEVERAL, STEPS, Kind, Plan, Store, When, draw

SEEDS = range(1, 301)
Draw = Callable[[int], Plan]
both = pytest.mark.parametrize(("draw", "kinds"), [(draw, LOCAL), (cluster_plan.draw, cluster_plan.KINDS)])


@both
def test_a_seed_is_a_plan(draw: Draw, kinds: tuple[Kind, ...]) -> None:
    assert [draw(seed) for seed in SEEDS] == [draw(seed) for seed in SEEDS]
    assert len({draw(seed).moments for seed in SEEDS}) > 280


def test_local_seeds_stay_the_plans_that_they_are() -> None:
    # Results name seeds, and a seed that failed is played again by its number, whatever clusters can play meanwhile.
    drawn = "\n".join(repr(draw(seed)) for seed in SEEDS)
    assert hashlib.sha256(drawn.encode()).hexdigest().startswith("873d78665eec7e02")


@both
@pytest.mark.parametrize("first", [1, 18, 200])
def test_any_few_dozen_seeds_have_every_kind(first: int, draw: Draw, kinds: tuple[Kind, ...]) -> None:
    drawn = [draw(seed) for seed in range(first, first + len(kinds))]
    assert frozenset().union(*(plan.kinds for plan in drawn)) == set(kinds)


@both
def test_all_moments_are_drawn_and_two_faults_at_once(draw: Draw, kinds: tuple[Kind, ...]) -> None:
    moments = [moment for seed in SEEDS for moment in draw(seed).moments]
    assert {moment.when for moment in moments} == set(When)
    assert {len(moment.faults) for moment in moments} == {1, 2}
    assert all(0 < moment.step < STEPS for moment in moments)


def test_faults_fit_their_setting() -> None:
    for plan in map(draw, SEEDS):
        assert plan.ranks <= 3
        assert len(plan.clocks_seconds) == plan.machines
        if plan.kinds & OF_STORE:
            assert plan.store is Store.S3
        if plan.kinds & OF_DISK:
            assert plan.store is Store.DISK
        if plan.kinds & (SEVERAL | COORDINATOR):
            assert plan.coordinator
            assert plan.machines > 1
        if Kind.FLIP_SHARD in plan.kinds:
            assert plan.data_from_store
        if Kind.NETWORK_LOSS in plan.kinds:
            assert plan.namespaces
        # Dropout shows every wrong random number; it differs between world sizes.
        assert (plan.dropout > 0) == (plan.fixed or plan.machines == 1)


def test_a_plan_says_what_happens() -> None:
    text = "\n".join(draw(2).lines())
    assert text.startswith("seed 2: ")
    assert all(kind in text for kind in draw(2).kinds)


def test_what_is_drawn_for_a_cluster_can_be_played_on_one() -> None:
    assert set(cluster_plan.KINDS) <= set(APPLY)
    for plan in map(cluster_plan.draw, SEEDS):
        kinds = [fault.kind for moment in plan.moments for fault in moment.faults]
        assert len(kinds) == len(set(kinds))
        assert (plan.dropout > 0) == plan.fixed
        if Kind.SCALE_STORM in kinds:
            assert not plan.fixed
        if Kind.API_AWAY in kinds:
            assert not plan.kinds & {Kind.DELETE_WORKER, Kind.REMOVE_COORDINATOR, Kind.DRAIN, Kind.PREEMPT}


def test_without_a_cluster_it_is_refused_in_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(OnCluster, "none_here", lambda: "no cluster is up")
    monkeypatch.setattr("sys.argv", ["faults", "--where", "cluster", "--results", str(tmp_path / "results")])
    assert campaign.main() == 2
    said = capsys.readouterr().err
    assert "error: no campaign on a cluster: no cluster is up" in said
    assert "to do: make cluster-up" in said
    assert not (tmp_path / "results").exists()
