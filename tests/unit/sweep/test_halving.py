"""Which runs go on at which step. Training is stood in for: tests/integration/sweep has it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from trainer.errors import UserError
from trainer.sweep import halving
from trainer.sweep.halving import check_halving, run_halving, rung_shares, rung_step, survivors
from trainer.sweep.local import Ended
from trainer.sweep.points import Point, Request, make_sweep

STEPS = 900


def points(*over: str, overrides: Sequence[str] = ("steps=900", "evaluate.every_steps=50")) -> tuple[Point, ...]:
    return make_sweep(Request("tiny-gpt2", over, overrides)).points


class MadeUp:
    """Runs whose loss at a step is that of their seed: the larger, the worse. Stands in for runner and store."""

    def __init__(self) -> None:
        self.steps: dict[str, int] = {}
        self.trained: list[list[int]] = []
        self.failing: set[int] = set()

    def look(self, point: Point) -> Any:
        return Looked(point, self.steps.get(point.name, 0))

    def train(self, own: Sequence[Point], enough: Callable[[Point], bool] | None = None) -> dict[str, Ended]:
        self.trained.append([point.settings["seed"] for point in own])
        ended = {}
        for point in own:
            if point.settings["seed"] in self.failing:
                ended[point.name] = Ended(1, "no")
                continue
            while self.steps.get(point.name, 0) < STEPS and not (enough is not None and enough(point)):
                self.steps[point.name] = self.steps.get(point.name, 0) + 10
            ended[point.name] = Ended(0 if self.steps[point.name] == STEPS else 75)
        return ended


class Looked:
    """What `run_halving` reads of a Standing."""

    def __init__(self, point: Point, step: int) -> None:
        self.point = point
        self.finished = step == STEPS
        self.validation = {at: point.settings["seed"] + 100 / at for at in range(50, step + 1, 50)}
        self.loss = self.validation.get(max(self.validation, default=0))


@pytest.fixture
def made_up(monkeypatch: pytest.MonkeyPatch) -> MadeUp:
    made = MadeUp()
    monkeypatch.setattr(halving, "look", made.look)
    return made


def halve(own: Sequence[Point], made: MadeUp) -> tuple[dict[str, Ended], set[str]]:
    runner: Any = made
    return run_halving(own, check_halving(own, 3), 3, runner, lambda: False, lambda _: None)


def test_the_best_third_goes_on_at_each_rung(made_up: MadeUp) -> None:
    own = points("seed=9,8,7,6,5,4,3,2,1")
    ended, given_up = halve(own, made_up)
    assert [sorted(each) for each in made_up.trained] == [list(range(1, 10)), [1, 2, 3], [1]]
    steps = {point.settings["seed"]: made_up.steps[point.name] for point in own}
    assert steps == {1: STEPS, 2: 300, 3: 300} | dict.fromkeys(range(4, 10), 100)
    assert given_up == {point.name for point in own if point.settings["seed"] > 1}
    assert not any(end.failed for end in ended.values())


def test_what_is_there_is_not_trained_again(made_up: MadeUp) -> None:
    own = points("seed=9,8,7,6,5,4,3,2,1")
    halve(own, made_up)
    made_up.trained.clear()
    halve(own, made_up)
    assert made_up.trained == [[], [], []]


def test_a_failed_run_is_no_survivor(made_up: MadeUp) -> None:
    own = points("seed=9,8,7,6,5,4,3,2,1")
    made_up.failing = {1}
    ended, given_up = halve(own, made_up)
    assert made_up.trained[-1] == [2]
    (failed,) = [name for name, end in ended.items() if end.failed]
    assert failed not in given_up


def test_rungs_leave_one_and_are_evaluations() -> None:
    assert rung_shares(9, 3) == [1 / 9, 1 / 3]
    assert rung_shares(8, 3) == [1 / 3]
    assert rung_shares(2, 3) == []
    config = points("seed=1")[0].config.model_copy(update={"steps": 1000, "tokens": None})
    assert rung_step(config, 1 / 3) == 350  # evaluated every 50 steps
    assert survivors({"a": 3.0, "b": 2.0, "c": 2.5, "d": 4.0}, 2) == ["b", "c"]
    assert survivors({"a": 3.0, "b": 2.0}, 3) == ["b"]


@pytest.mark.parametrize(
    ("over", "overrides", "said"),
    [
        ("seed=1,2,3", ("epochs=2",), "a length in epochs"),
        ("seed=1,2", ("steps=900", "evaluate.every_steps=50"), "leaves no step"),
        ("seed=1,2,3", ("steps=900", "evaluate.every_steps=900"), "leaves no step"),
        ("seed=1,2,3", ("steps=900", "evaluate.every_steps=50", "schedule.warmup_steps=400"), "leaves no step"),
    ],
)
def test_what_cannot_be_compared_in_time_is_refused(over: str, overrides: tuple[str, ...], said: str) -> None:
    with pytest.raises(UserError) as error:
        check_halving(points(over, overrides=overrides), 3)
    assert said in str(error.value)
