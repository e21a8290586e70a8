"""Complaints about settings: one sentence per problem, in the words of a run file."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from trainer.complaints import complaints, nearest
from trainer.config import RunConfig

MINIMAL = {"name": "a", "steps": 3, "sequence_length": 8, "model": {"family": "gpt2"}, "data": {"train": "x"}}


def refused(**changes: Any) -> list[str]:
    data = {**MINIMAL, **changes}
    with pytest.raises(ValidationError) as caught:
        RunConfig.model_validate(data)
    return complaints(caught.value, data, RunConfig)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"optimizer": {"type": "adamm"}}, "optimizer.type: found 'adamm'; expected one of 'adamw', 'muon'"),
        ({"optimizer": "adamw"}, "optimizer: found 'adamw'; expected a section with keys of its own"),
        ({"optimizer": {"type": "adamw", "betas": 0.9}}, "optimizer.betas: found 0.9; expected a list"),
        (
            {"optimizer": {"type": "adamw", "betas": [0.9, 1]}},
            "optimizer.betas.1: found 1; expected a number less than 1",
        ),
        ({"optimizer": {"type": "adamw", "lr": "no"}}, "optimizer.lr: found 'no'; expected a valid number"),
        ({"batch": {"sequences": 0}}, "batch.sequences: found 0; expected a number greater than or equal to 1"),
        ({"epochs": float("inf"), "steps": None}, "epochs: found inf; expected a finite number"),
        ({"data": {"train": []}}, "data.train: found []; expected at least 1 of them"),
        ({"name": "My_Run"}, "a DNS-1035 label of at most 40 characters"),
        ({"data": {"train": {"path": "x", "wieght": 2}}}, "data.train.wieght: unknown key; did you mean `weight`?"),
    ],
)
def test_the_key_what_was_found_and_what_is_right(changes: dict[str, Any], sentence: str) -> None:
    (complaint,) = refused(**changes)
    assert sentence in complaint


def test_a_value_that_fits_no_arm_of_a_union_is_one_problem() -> None:
    assert refused(checkpoint={"keep": {"epochs": "all"}}) == [
        "checkpoint.keep.epochs: found 'all'; expected a valid boolean or expected a valid integer"
    ]


def test_a_refused_item_does_not_make_its_list_too_short() -> None:
    assert refused(data={"train": [{"path": "x", "weight": -1}]}) == [
        "data.train.0.weight: found -1; expected a number greater than 0"
    ]


def test_rules_across_keys_are_one_line_each() -> None:
    found = refused(sequence_length=4096, batch={"sequences": 2, "micro_sequences": 4})
    assert [line.split(":")[0] for line in found] == ["sequence_length", "batch.micro_sequences"]


def test_nearest_says_nothing_where_nothing_is_near() -> None:
    assert nearest("lrr", ["lr", "eps"]) == "; did you mean `lr`?"
    assert nearest("zzz", ["lr", "eps"]) == ""
