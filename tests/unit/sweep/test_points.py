"""From a run file to checked runs with names."""

from __future__ import annotations

import re

import pytest

from trainer.errors import UserError
from trainer.sweep.points import Request, Sweep, make_sweep


def sweep(*over: str, overrides: tuple[str, ...] = (), random: int | None = None, limit: int = 64) -> Sweep:
    return make_sweep(Request("tiny-gpt2", over, overrides, random, 1, limit))


def test_runs_are_named_by_what_they_set_however_it_is_written() -> None:
    first = sweep("optimizer.lr=1e-3,2e-3", "batch.sequences=8,16")
    names = {point.name for point in first.points}
    assert len(names) == 4
    assert all(re.fullmatch(r"tiny-gpt2-[0-9a-f]{6}", name) for name in names)
    wider = sweep("batch.sequences=32,16,8", "optimizer.lr=0.002,0.001,0.0005")
    assert names < {point.name for point in wider.points}


def test_each_config_is_the_run_file_with_its_values() -> None:
    made = sweep("optimizer.lr=1e-3,2e-3", overrides=("seed=5",))
    assert [point.config.optimizer.lr for point in made.points] == [1e-3, 2e-3]
    assert {point.config.seed for point in made.points} == {5}
    assert [point.config.name for point in made.points] == [point.name for point in made.points]
    assert made.points[0].words == "optimizer.lr=0.001"


def test_complaints_about_all_combinations_come_together() -> None:
    with pytest.raises(UserError) as error:
        sweep("batch.sequences=4,8", "optimizer.lr=-1,1e-3")
    said = str(error.value)
    assert "4 combinations, and nothing was started" in said
    assert "batch.micro_sequences: 8 is more than batch.sequences 4" in said
    assert "(with batch.sequences=4 optimizer.lr=1e-3)" in said
    assert "optimizer.lr: found -1" in said
    with pytest.raises(UserError) as error:
        sweep("optimizer.lrr=1,2", "seed=1,2")
    assert "optimizer.lrr: unknown key; did you mean `lr`? (in all of them)" in str(error.value)


def test_two_combinations_of_one_name_are_refused() -> None:
    # Two of the first six thousand seeds whose hashes begin alike.
    with pytest.raises(UserError, match=r"seed=5140 and seed=5885 are both called tiny-gpt2-32b972"):
        make_sweep(Request("tiny-gpt2", ["seed=1,5140,5885"]))


def test_too_many_combinations_are_counted_before_they_are_refused() -> None:
    with pytest.raises(UserError, match="100 combinations") as error:
        sweep("optimizer.lr=1e-4..1e-2:10", "seed=1,2,3,4,5,6,7,8,9,10")
    assert "--limit to 100" in str(error.value)
    assert len(sweep("optimizer.lr=1e-4..1e-2:10", limit=10).points) == 10


def test_a_random_search_draws_different_runs() -> None:
    made = sweep("optimizer.lr=1e-4..1e-2", "batch.sequences=8,16", random=12)
    assert len({point.name for point in made.points}) == 12
    # There are only two.
    assert len(sweep("batch.sequences=8,16", random=5).points) == 2


@pytest.mark.parametrize(
    ("over", "overrides", "said"),
    [
        ((), (), "a sweep over nothing"),
        (("seed=1,2",), ("name=" + "a" * 34,), "34 characters"),
        (("seed=1,2",), ("evaluate.every_steps=0",), "no validation loss to compare"),
        (("optimizer.type=adamw,sgd",), (), "optimizer.type: found 'sgd'"),
        (("steps.x=1",), (), "expected: keys and values"),
    ],
)
def test_bad_input(over: tuple[str, ...], overrides: tuple[str, ...], said: str) -> None:
    with pytest.raises(UserError) as error:
        sweep(*over, overrides=overrides)
    assert said in str(error.value)


def test_batches_of_other_sizes_at_equal_steps_are_called_unfair() -> None:
    assert "tokens" in sweep("batch.sequences=8,16").advice[0]
    assert sweep("batch.sequences=8,16", overrides=("tokens=1000000",)).advice == ()
    assert sweep("optimizer.lr=1e-3,2e-3").advice == ()
