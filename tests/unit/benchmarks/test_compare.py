"""What the comparison makes of its measurements: ratios, turns, the table, the chart, recovery's seconds."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from benchmarks.compare import __main__, page
from benchmarks.compare.chart import write_chart
from benchmarks.compare.measurement import OURS, Measurement, Part, Report
from benchmarks.compare.recovery import Step, first_new_step, half_way_after
from benchmarks.compare.turns import in_turn, take_turns
from benchmarks.hosts import HostFailed

RATE = Measurement("rate", "tokens/s", True, {OURS: [10.0, 30.0, 20.0], "a": [10.0, 10.0, 10.0], "b": [5.0] * 3}, 0.97)
PAUSE = Measurement("pause", "s", False, {OURS: [2.0], "a": [4.0], "b": [1.0]}, 1.0)
HARDWARE = {"cpu": "a CPU", "cores": 2, "torch": "2.13.0", "date": "2026-01-01"}
RESULTS = {
    "rates": {"hardware": HARDWARE, "measurements": [RATE.to_json(), PAUSE.to_json()], "absent": {"c": "no compiler"}}
}


def test_ratios_are_paired_by_round_and_the_best_peer_counts() -> None:
    assert RATE.ratio_to("a") == 2.0
    assert RATE.ratio == 2.0
    assert RATE.enough


def test_less_is_better_turns_the_ratio_round() -> None:
    assert PAUSE.ratio_to("a") == 2.0
    assert PAUSE.ratio == 0.5
    assert not PAUSE.enough


def test_a_measurement_comes_back_from_json() -> None:
    assert Measurement.from_json(RATE.to_json()) == RATE


def test_rounds_of_unequal_length_are_an_error() -> None:
    with pytest.raises(ValueError, match="zip"):
        Measurement("x", "s", True, {OURS: [1.0], "a": [1.0, 2.0]}).ratio_to("a")


def test_each_round_begins_with_another_side() -> None:
    assert list(in_turn(["a", "b", "c"], 2)) == ["a", "b", "c", "b", "c", "a"]


def test_a_side_that_fails_is_left_out_and_holds_up_no_other() -> None:
    working: Any = {"a": "host a", "b": "host b"}
    absent: dict[str, str] = {}
    asked = []

    def turn(host: Any) -> str:
        asked.append(host)
        if asked[-1] == "host b" and asked.count("host b") == 2:
            raise HostFailed("trace\nout of luck\n")
        return f"of {host}"

    assert take_turns(working, absent, 3, turn) == {"a": ["of host a"] * 3}
    assert absent == {"b": "out of luck"}
    assert asked.count("host b") == 2


def fails(_: bool) -> Report:
    """A part whose side ends the process."""
    sys.exit("no room left")


def without_us(_: bool) -> Report:
    """A part in which our side failed."""
    return Report([], {f"{OURS}, 2 processes": "it broke"})


@pytest.mark.parametrize(("measure", "words"), [(fails, "no room left"), (without_us, "our side failed: it broke")])
def test_a_part_that_fails_is_a_row_without_figures(
    measure: Callable[[bool], Report], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__main__.PARTS, "rates", Part("Rates", "All did the same.", measure))
    # A process of its own costs seconds, and hands on what was raised.
    monkeypatch.setattr(__main__, "in_own_process", lambda function, *arguments: function(*arguments))
    assert __main__.measured("rates", True) == Report([], {"all sides": words})


def test_a_measurement_without_peers_has_no_ratio_and_misses_nothing() -> None:
    alone = Measurement("rate", "tokens/s", True, {OURS: [1.0]}, 0.97)
    assert alone.ratio is None
    assert alone.enough
    assert page.row(alone) == "| rate | 1.00 tokens/s |  | >= 0.97 | - |"


def test_a_step_is_new_when_no_life_before_the_kill_took_it() -> None:
    # Of the first life, whose last step ended after rank 1 was killed; then steps 21 to 31 are done again.
    lives = [("a1", step) for step in range(25, 32)] + [("a2", step) for step in range(21, 34)]
    steps = [Step(life, number, float(second)) for second, (life, number) in enumerate(lives)]
    assert first_new_step(steps, "a1") == Step("a2", 32, 18.0)


def test_kills_come_half_way_between_saves() -> None:
    assert [half_way_after(step) for step in (0, 30, 39, 40)] == [30, 50, 50, 70]


def test_the_page_shows_sides_bars_and_who_is_missing() -> None:
    text = page.page(RESULTS, {"rates": Part("Rates", "All did the same.", lambda _: Report([]))})
    assert "| rate | 20.00 tokens/s | a 10.00 (2.00), b 5.00 (4.00) | >= 0.97 | 2.00 |" in text
    assert "| 0.50 (missed) |" in text
    assert "| rates | | c: no figure: no compiler | | |" in text
    assert "Measured on a CPU, 2 cores, torch 2.13.0, 2026-01-01." in text


def test_the_chart_is_the_same_for_the_same_results(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    for name in ("one.svg", "two.svg"):
        write_chart(RESULTS, tmp_path / name)
    assert (tmp_path / "one.svg").read_bytes() == (tmp_path / "two.svg").read_bytes()
    assert "2.00 a" in (tmp_path / "one.svg").read_text()
