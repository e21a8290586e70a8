"""Retention keeps what a tier holds and nothing else, for any set of checkpoints."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from trainer.checkpoint.config import KeepConfig
from trainer.checkpoint.layout import RunListing, checkpoint_name
from trainer.checkpoint.retention import Facts, best_first, protected_base, tiers, to_delete, torn_to_clean

losses = st.none() | st.floats(0, 10) | st.just(math.nan)
keeps = st.builds(
    KeepConfig, rolling=st.integers(1, 4), best=st.integers(0, 3), epochs=st.booleans() | st.integers(2, 4)
)


@st.composite
def runs(draw: st.DrawFn) -> tuple[list[Facts], list[str]]:
    """Facts of a run's checkpoints and its line, newest first; the last few may lie outside of the line."""
    steps = sorted(draw(st.sets(st.integers(1, 60), max_size=12)))
    facts = [
        Facts(checkpoint_name(step, 1), step / draw(st.just(10)), draw(losses), draw(st.booleans())) for step in steps
    ]
    outside = draw(st.integers(0, 2))
    line = [fact.name for fact in reversed(facts)][outside:]
    return facts, line


@given(runs(), keeps)
def test_what_stays_is_what_a_tier_holds(run: tuple[list[Facts], list[str]], keep: KeepConfig) -> None:
    facts, line = run
    held = tiers(facts, line, keep)
    deleted = to_delete(facts, line, keep)
    assert set(held) == {fact.name for fact in facts}
    assert sorted(deleted) == sorted(name for name, names in held.items() if not names)
    assert set(line[: keep.rolling]).isdisjoint(deleted)
    assert {fact.name for fact in facts if fact.pinned}.isdisjoint(deleted)
    assert {fact.name for fact in best_first(facts)[: keep.best]}.isdisjoint(deleted)
    if line:
        assert "latest" in held[line[0]]


@given(runs(), keeps)
def test_a_second_pass_deletes_nothing_more(run: tuple[list[Facts], list[str]], keep: KeepConfig) -> None:
    facts, line = run
    deleted = set(to_delete(facts, line, keep))
    left = [fact for fact in facts if fact.name not in deleted]
    assert to_delete(left, [name for name in line if name not in deleted], keep) == []


@given(runs(), keeps)
def test_the_end_of_each_finished_epoch_stays(run: tuple[list[Facts], list[str]], keep: KeepConfig) -> None:
    facts, line = run
    by_name = {fact.name: fact for fact in facts}
    held = tiers(facts, line, keep.model_copy(update={"epochs": True}))
    furthest = max((by_name[name].epoch for name in line), default=0.0)
    for epoch in range(int(furthest)):
        within = [by_name[name] for name in line if epoch < by_name[name].epoch <= epoch + 1]
        if within:
            assert "epoch" in held[max(within, key=lambda fact: fact.epoch).name]
    unfinished = [name for name in line if by_name[name].epoch > math.floor(furthest)]
    assert not any("epoch" in held[name] for name in unfinished)


def test_a_number_of_epochs_keeps_the_newest() -> None:
    facts = [Facts(checkpoint_name(step, 1), step / 10) for step in (5, 10, 20, 30)]
    line = [fact.name for fact in reversed(facts)]
    held = tiers(facts, line, KeepConfig(rolling=1, epochs=2))
    assert [name for name, names in held.items() if "epoch" in names] == [facts[2].name, facts[3].name]


def test_the_base_stays_until_the_attempt_has_its_own() -> None:
    base = checkpoint_name(10, 1)
    assert protected_base(2, base, [base]) == (base,)
    assert protected_base(2, base, [base, checkpoint_name(20, 2)]) == ()
    assert protected_base(2, None, [base]) == ()


def test_an_attempt_that_has_not_committed_cleans_nothing() -> None:
    listing = RunListing((), {checkpoint_name(10, 1): {}}, {})
    assert torn_to_clean(listing, 2, between_saves=True) == []
