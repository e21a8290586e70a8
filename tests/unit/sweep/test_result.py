"""Tables of sweeps that are made of curves: order, differences, errors, edges, and the page."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime
from pathlib import Path

import pytest
from rich.console import Console

from tests.unit.pages.reading import Page
from trainer.metrics.report.build import build
from trainer.metrics.report.folds import event, training_line
from trainer.metrics.report.reading import RunFiles
from trainer.sweep.local import Ended
from trainer.sweep.page import write_page
from trainer.sweep.points import Point, Request, make_sweep
from trainer.sweep.result import SweepResult, make_result
from trainer.sweep.run import _exit_code
from trainer.sweep.standing import Standing
from trainer.sweep.text import print_result

KEYS = ("optimizer.lr", "batch.sequences", "seed")


def points(*over: str) -> tuple[Point, ...]:
    return make_sweep(Request("tiny-gpt2", over, ("tokens=100000",))).points


def standing(point: Point, loss: float | None, *, finished: bool = True) -> Standing:
    """A run with validation losses 0.5 above `loss` at step 10 and `loss` at step 20; None: not begun; NaN: 3.5 at step
    10 and at step 20 none that is a number."""
    if loss is None:
        return Standing(point)
    files = RunFiles(f"runs/{point.name}", point.name)
    for step, value in ((10, 3.5 if math.isnan(loss) else loss + 0.5), (20, loss)):
        files.training.append(training_line(1, 0.0, {"step": step, "tokens": step * 4096, "validation_loss": value}))
    files.last_sign[1] = 1.0
    if finished:
        files.events.append(event(1, 1.0, {"kind": "finished", "reason": "finished", "message": "", "step": 20}))
    return Standing(point, build(files, datetime.now(UTC)))


def result_of(losses: dict[float, float | None], **options: object) -> SweepResult:
    made = points("optimizer.lr=" + ",".join(map(str, losses)))
    standings = [standing(p, losses[p.settings["optimizer.lr"]]) for p in made]
    return make_result("x", ("optimizer.lr",), standings, failures={}, **options)  # type: ignore[arg-type]


def test_rows_are_sorted_with_differences_to_the_best() -> None:
    result = result_of({1e-3: 3.2, 2e-3: 3.0, 4e-3: 3.1, 8e-3: None})
    assert [row.settings["optimizer.lr"] for row in result.rows] == [2e-3, 4e-3, 1e-3, 8e-3]
    assert [row.difference for row in result.rows] == [0.0, pytest.approx(0.1), pytest.approx(0.2), None]
    assert result.best is not None
    assert result.best.settings == {"optimizer.lr": 2e-3}
    assert result.edges == ()
    assert any("one seed each" in note for note in result.notes)
    assert any("1 of 4 not finished" in note for note in result.notes)


def test_a_run_whose_last_loss_is_no_number_has_none_and_is_not_the_best() -> None:
    result = result_of({1e-3: math.nan, 2e-3: 3.6, 4e-3: math.nan})
    assert [row.validation_loss for row in result.rows] == [3.6, None, None]
    assert result.best == result.rows[0]
    assert result.rows[1].difference is None
    assert result.notes == ("2 of 3 finished with a loss that is not a number",)
    assert result_of({1e-3: math.nan, 2e-3: math.nan}).best is None

    made = points("optimizer.lr=1e-3", "seed=1,2")
    standings = [standing(made[0], 3.0), standing(made[1], math.nan)]
    assert make_result("x", KEYS[:1] + KEYS[2:], standings, failures={}).rows[0].validation_loss is None


def test_seeds_give_a_mean_and_its_error() -> None:
    made = points("optimizer.lr=1e-3,2e-3", "seed=1,2,3")
    losses = {1e-3: {1: 3.0, 2: 3.1, 3: 3.2}, 2e-3: {1: 3.4, 2: 3.4, 3: 3.7}}
    standings = [standing(p, losses[p.settings["optimizer.lr"]][p.settings["seed"]]) for p in made]
    result = make_result("x", KEYS[:1] + KEYS[2:], standings, failures={})
    best, other = result.rows
    assert result.keys == ("optimizer.lr",)
    assert (best.validation_loss, best.standard_error) == (pytest.approx(3.1), pytest.approx(0.1 / 3**0.5))
    assert other.difference == pytest.approx(0.4)
    assert other.difference_error == pytest.approx((0.01 / 3 + 0.03 / 3) ** 0.5)
    assert any("more than 2 standard errors" in note for note in result.notes)


@pytest.mark.parametrize(
    ("losses", "side", "beyond"),
    [
        ({1e-3: 3.0, 2e-3: 3.1, 4e-3: 3.2}, "lowest", 5e-4),
        ({1e-3: 3.2, 2e-3: 3.1, 4e-3: 3.0}, "highest", 8e-3),
    ],
)
def test_a_best_at_the_edge_asks_for_a_wider_range(losses: dict[float, float | None], side: str, beyond: float) -> None:
    result = result_of(losses)
    assert [(edge.side, edge.try_next) for edge in result.edges] == [(side, beyond)]
    assert any("widen" in note for note in result.notes)


def test_beyond_whole_numbers_lies_a_whole_number() -> None:
    for tried, beyond in (((6, 8, 16), [4]), ((1, 2, 4), [])):
        made = points(f"batch.micro_sequences={','.join(map(str, tried))}", "batch.sequences=16")
        standings = [standing(point, 3.0 + number) for number, point in enumerate(made)]
        edges = make_result("x", KEYS, standings, failures={}).edges
        assert [edge.try_next for edge in edges if edge.key == "batch.micro_sequences"] == beyond


def test_two_values_are_a_choice_and_no_range() -> None:
    assert result_of({1e-3: 3.0, 2e-3: 3.1}).edges == ()


def test_failed_and_unfinished_runs_are_told_and_never_best() -> None:
    made = points("optimizer.lr=1e-3,2e-3,4e-3")
    standings = [standing(made[0], 2.0, finished=False), standing(made[1], 3.0), standing(made[2], 1.0, finished=False)]
    result = make_result("x", KEYS[:1], standings, failures={made[2].name: "the loss is not a number"})
    assert [row.state for row in result.rows] == ["finished", "failed", "partial"]
    assert result.best is not None
    assert result.best.validation_loss == 3.0
    assert result.rows[1].message == "the loss is not a number"


def test_exit_codes_say_what_to_do_next() -> None:
    finished = result_of({1e-3: 3.0, 2e-3: 3.1})
    assert _exit_code(finished, {}, stopped=False) == 0
    assert _exit_code(finished, {}, stopped=True) == 75
    assert _exit_code(finished, {"a": Ended(1), "b": Ended(2)}, stopped=False) == 1
    assert _exit_code(finished, {"a": Ended(0), "b": Ended(2)}, stopped=False) == 2
    assert _exit_code(result_of({1e-3: 3.0, 2e-3: None}), {"b": Ended(75)}, stopped=False) == 75


def test_the_page_and_the_table_have_every_figure(tmp_path: Path) -> None:
    made = points("optimizer.lr=1e-3,2e-3,4e-3", "batch.sequences=8,16")
    standings = [standing(p, 3.0 + i / 8) for i, p in enumerate(made)]
    result = make_result("<tiny>", KEYS[:2], standings, failures={})
    write_page(result, tmp_path / "out.html")
    page = Page((tmp_path / "out.html").read_text(encoding="utf-8"))
    assert len(page.all("polyline")) == 2
    assert len(page.all("circle")) == 6
    assert "0.004" in page.texts["text"]
    console = Console(record=True, width=120)
    print_result(result, console)
    shown = console.export_text()
    for number in range(6):
        assert f"{3.0 + number / 8:.4f}" in shown
        assert f"{3.0 + number / 8:.4f}" in " ".join(page.texts["td"])
    assert json.loads(result.model_dump_json())["best"]["validation_loss"] == 3.0
