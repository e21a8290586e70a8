"""What `--over` may say."""

from __future__ import annotations

from itertools import islice

import pytest

from trainer.errors import UserError
from trainer.sweep.axes import drawn, grid, parse_axes, settings_of


def values(text: str) -> list[str]:
    (axis,) = parse_axes([text], at_random=False)
    return [value for ((_, value),) in axis.choices()]


def test_lists_keep_values_as_they_are_written() -> None:
    assert values("optimizer.lr=1e-3,2e-3,2e-3") == ["1e-3", "2e-3"]
    assert values("optimizer.betas=[0.9,0.95],[0.9,0.99]") == ["[0.9,0.95]", "[0.9,0.99]"]


def test_ranges_are_evenly_spaced_on_a_logarithmic_scale() -> None:
    assert values("optimizer.lr=1e-4..1e-2:5") == ["1e-4", "0.000316", "0.001", "0.00316", "1e-2"]
    assert values("batch.sequences=8..64:4") == ["8", "16", "32", "64"]
    assert values("batch.sequences=1..2:4") == ["1", "2"]


def test_a_grid_has_every_combination_and_linked_keys_change_together() -> None:
    axes = parse_axes(["model.layers/model.width=2/64,4/128", "seed=1,2"], at_random=False)
    assert [dict(choice) for choice in grid(axes)] == [
        {"model.layers": layers, "model.width": width, "seed": seed}
        for layers, width in (("2", "64"), ("4", "128"))
        for seed in ("1", "2")
    ]


def test_draws_depend_on_the_seed_alone_and_more_of_them_begin_with_the_same() -> None:
    texts = ["optimizer.lr=1e-4..1e-2", "batch.sequences=8..64", "seed=1,2"]
    first, second = (parse_axes(order, at_random=True) for order in (texts, texts[::-1]))
    few, many = list(islice(drawn(first, 7), 3)), list(islice(drawn(second, 7), 30))
    assert [dict(choice) for choice in few] == [dict(choice) for choice in many[:3]]
    assert next(drawn(first, 8)) != few[0]
    for choice in many:
        found = settings_of(choice)
        assert 1e-4 <= found["optimizer.lr"] <= 1e-2
        assert found["batch.sequences"] in range(8, 65)
    # Half of the draws of a logarithmic scale lie below its middle.
    assert 5 < sum(settings_of(choice)["optimizer.lr"] < 1e-3 for choice in many) < 25


@pytest.mark.parametrize(
    ("texts", "said"),
    [
        (["optimizer.lr"], "--over optimizer.lr"),
        (["=1,2"], "--over =1,2"),
        (["optimizer.lr="], "--over optimizer.lr="),
        (["optimizer.lr=1e-4..1e-2"], "a range without a count"),
        (["optimizer.lr=1e-2..1e-4:5"], "0 < LOW < HIGH"),
        (["optimizer.lr=0..1:5"], "0 < LOW < HIGH"),
        (["optimizer.lr=1e-4..1e-2:1"], "2 to 1000 values"),
        (["optimizer.lr=1e-4..1e-2:many"], "2 to 1000 values"),
        (["model.layers/model.width=2"], "1 values for 2 keys"),
        (["seed=1", "seed=2"], "names seed twice"),
        (["name=a,b"], "the sweep names its runs"),
        (["checkpoint.store=a,b"], "share a store"),
    ],
)
def test_what_cannot_be_read_is_refused(texts: list[str], said: str) -> None:
    with pytest.raises(UserError) as error:
        parse_axes(texts, at_random=False)
    assert said in str(error.value)
