"""Plans: a pure function of the seed, every kind within a few dozen seeds, nothing that a setting cannot have."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults import __main__ as campaign
from tests.faults.plan import COORDINATOR, OF_DISK, OF_STORE, SEVERAL, STEPS, Kind, Store, When, draw

SEEDS = range(1, 301)


def test_a_seed_is_a_plan() -> None:
    assert [draw(seed) for seed in SEEDS] == [draw(seed) for seed in SEEDS]
    assert len({draw(seed).moments for seed in SEEDS}) > 290


@pytest.mark.parametrize("first", [1, 18, 200])
def test_any_few_dozen_seeds_have_every_kind(first: int) -> None:
    drawn = [draw(seed) for seed in range(first, first + len(Kind))]
    assert frozenset().union(*(plan.kinds for plan in drawn)) == set(Kind)


def test_all_moments_are_drawn_and_two_faults_at_once() -> None:
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


def test_what_is_not_there_is_refused_in_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["faults", "--where", "cluster", "--results", str(tmp_path / "results")])
    assert campaign.main() == 2
    said = capsys.readouterr().err
    assert "--where cluster" in said
    assert "expected: one of local" in said
    assert not (tmp_path / "results").exists()
