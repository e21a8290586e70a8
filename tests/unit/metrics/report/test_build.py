"""What a report says of a run that was killed, scaled and resumed, and of runs with damage and gaps."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.unit.metrics.report.conftest import PRICE, Run, account, gpu, training
from trainer.errors import UserError
from trainer.metrics.report import report_run
from trainer.metrics.report.folds import PerformanceFold


def test_the_curve_has_no_fork(killed_and_scaled: Run) -> None:
    found = report_run(killed_and_scaled.url)
    losses = [(line.attempt, line.step) for line in found.kept if line.loss is not None]
    first = [(1, step) for step in (10, 20, 30, 40)]
    assert losses == [*first, *((2, step) for step in (50, 60, 70, 80)), *((3, step) for step in (90, 100, 110, 120))]
    assert len(found.lines) == 6 + 5 + 4


def test_attempts_say_when_they_worked_and_how_they_ended(killed_and_scaled: Run) -> None:
    report = report_run(killed_and_scaled.url).report
    first, second, third = report.attempts
    assert first.end is not None
    assert (first.end.reason, first.end.counted, first.end.message) == ("WorkerFailed", True, "rank 1 <died>")
    assert (first.seconds, first.idle_seconds, first.steps_redone, first.checkpoints) == (70, None, 20, 2)
    assert (second.seconds, second.idle_seconds, second.steps_redone) == (52, 30, 0)
    assert (second.first_step, second.last_step, second.base_checkpoint) == (50, 80, "step-00000040-a0001")
    assert (third.world_size, third.hosts, third.tokens_per_second) == (4, 2, 1600)
    assert third.end == report.end
    assert report.end is not None
    assert report.end.reason == "finished"
    assert [(one.reason, one.count, one.counted) for one in report.restarts] == [
        ("WorkerFailed", 1, 1),
        ("Scaled", 1, 0),
    ]


def test_steps_before_the_first_line_were_done_again_too(new_run: Callable[..., Run]) -> None:
    run = new_run()
    run.claim(1, 0)
    run.lines(1, "training", [training(10, 10)])
    run.claim(2, 20)
    run.lines(2, "training", [training(step, 20 + step) for step in (10, 20)])
    run.commit(15, 2, 35)
    run.claim(3, 50, base="step-00000015-a0002")
    run.lines(3, "training", [training(20, 60)])
    rows = report_run(run.url).report.attempts
    assert [row.steps_redone for row in rows] == [10, 5, 0]


def test_figures_of_the_whole_run(killed_and_scaled: Run) -> None:
    report = report_run(killed_and_scaled.url).report
    assert (report.step, report.steps_planned, report.tokens, report.model) == (120, 120, 120_000, "gpt2")
    assert (report.loss, report.validation_loss, report.best_validation_loss) == (2.5, 3.5, 3.5)
    assert report.wall_seconds == 181
    assert report.checkpoints.saves == 4
    assert report.checkpoints.failures == 1
    assert report.checkpoints.stall_seconds == 1.5
    assert (report.checkpoints.duration_seconds, report.checkpoints.longest_seconds) == (1.5, 4.5)
    assert report.checkpoints.newest == "step-00000080-a0002"
    assert report.gpus is not None
    assert report.gpus.utilization_ratio == pytest.approx(0.85)
    assert (report.gpus.count, report.gpus.memory_used_bytes, report.gpus.temperature_celsius) == (2, 60e9 + 1, 61)
    assert report.hosts is not None
    assert report.hosts.memory_used_ratio == 0.25
    assert report.performance.shares == pytest.approx({"forward_backward": 0.8, "data": 0.1, "communication": 0.1})
    assert report.performance.rank_spread == 1.5
    assert report.missing == ()
    assert report.warnings == ()


def test_scaling_is_speed_per_worker_against_the_smallest_world(killed_and_scaled: Run) -> None:
    two, four = report_run(killed_and_scaled.url).report.performance.scaling
    assert (two.world_size, two.tokens_per_second_per_worker, two.efficiency, two.steps_per_second) == (2, 500, 1, 1)
    assert (four.world_size, four.tokens_per_second, four.efficiency) == (4, 1600, 0.8)
    # The first line of an attempt has compilation in it.
    assert (two.lines, four.lines) == (5 + 3, 3)


def test_goodput_and_cost_are_those_of_the_last_line(killed_and_scaled: Run) -> None:
    report = report_run(killed_and_scaled.url).report
    assert report.goodput is not None
    assert report.goodput.ratio == pytest.approx(100 / 180)
    # 4 workers; starts count as lost but for the first attempt's, of 2 workers.
    assert report.goodput.lost_gpu_seconds == (18 + 42) * 4 + (10 + 10) * 4 - (5 + 5) * 2
    assert report.cost is not None
    assert report.cost.currency == "EUR"
    assert report.cost.spent == pytest.approx(180 * 4 / 3600 * 2)
    assert report.cost.lost == pytest.approx(300 / 3600 * 2)
    assert report.cost.per_billion_tokens == pytest.approx(report.cost.spent / 120_000 * 1e9)
    assert not report.cost.estimated


def test_a_run_begins_with_its_first_process_and_one_rank_has_no_slowest(new_run: Callable[..., Run]) -> None:
    run = new_run()
    run.claim(1, 10)
    run.lines(1, "performance", [account(10, 20, 1, init=12, training=18)])
    report = report_run(run.url).report
    assert report.wall_seconds == 30
    assert report.performance.slowest_rank is None
    assert report.performance.rank_spread is None


def test_what_the_run_itself_counted_as_lost_is_taken(new_run: Callable[..., Run]) -> None:
    run = new_run()
    run.claim(1, 0)
    run.lines(1, "performance", [{**account(10, 20, training=18, init=2), "lost_gpu_seconds": 7.5}])
    goodput = report_run(run.url).report.goodput
    assert goodput is not None
    assert goodput.lost_gpu_seconds == 7.5


def test_a_run_of_an_older_program_has_a_report(new_run: Callable[..., Run]) -> None:
    run = new_run()
    run.config(steps=40, **PRICE)
    run.claim(1, 0)
    run.lines(1, "training", [training(step, step) for step in (10, 20)])
    run.claim(2, 30, base="step-00000020-a0001")
    run.lines(2, "training", [training(step, 10 + step) for step in (30, 40)])
    report = report_run(run.url).report
    assert report.goodput is None
    assert report.gpus is None
    assert report.performance.shares == {}
    assert [(one.reason, one.count) for one in report.restarts] == [("unknown", 1)]
    assert report.end is not None
    assert report.end.reason == "finished"
    assert report.cost is not None
    assert report.cost.estimated
    assert report.cost.spent == pytest.approx((20 + 20) * 2 / 3600 * 2)
    missing = " ".join(report.missing)
    assert "performance lines" in missing
    assert "gpu lines" in missing
    assert "checkpoints: none" in missing


def test_where_an_attempt_began_is_known_by_its_claim(new_run: Callable[..., Run]) -> None:
    run = new_run()
    run.claim(1, 0)
    run.lines(1, "training", [training(step, step) for step in range(1, 11)])
    run.claim(2, 20, base="s3://bucket/other/checkpoints/step-00000005-a0001")
    run.lines(2, "training", [training(step, 20 + step) for step in (7, 8)])
    run.claim(3, 40, base="step-00000008-a0002")
    found = report_run(run.url)
    assert [(line.attempt, line.step) for line in found.kept][:6] == [(1, step) for step in range(1, 7)]
    assert [(line.attempt, line.step) for line in found.kept][6:] == [(2, 7), (2, 8)]
    run.claim(4, 60)  # from nothing, and without a line: passed over
    assert len(report_run(run.url).kept) == 8
    run.lines(4, "training", [training(5, 65)])
    assert [(line.attempt, line.step) for line in report_run(run.url).kept] == [(4, 5)]


def test_damage_is_named_and_hides_nothing_else(killed_and_scaled: Run) -> None:
    folder = killed_and_scaled.folder
    lines = folder / "logs" / "a0001" / "training-000.jsonl"
    lines.write_text(lines.read_text()[:-20])
    with (folder / "logs" / "a0002" / "performance-000.jsonl").open("a") as file:
        file.write('[1]\n{"step": "x"}\n{"step": 90, "goodput_seconds": 7, "hosts": [3], "shares": {"data": "much"}}\n')
    (folder / "attempts" / "a0002.json").write_text("{")
    (folder / "checkpoints" / "step-00000020-a0001" / "COMMITTED.json").write_text("{}")
    (folder / "run.yaml").write_text("a: [")
    report = report_run(killed_and_scaled.url).report
    warnings = "\n".join(report.warnings)
    for words in (
        "run.yaml: not readable",
        "a0002.json is not a valid claim",
        "step-00000020-a0001: COMMITTED.json",
        "logs/a0001/training-000.jsonl: 1 line is damaged or cut off, and left out",
        "logs/a0002/performance-000.jsonl: 2 lines are damaged",
    ):
        assert words in warnings
    assert (report.step, report.loss, len(report.attempts)) == (120, 2.5, 3)
    assert report.attempts[1].world_size == 2
    assert report.goodput is not None


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 10**400, "3", None, True, [1], {}])
def test_odd_figures_are_left_out(new_run: Callable[..., Run], value: Any) -> None:
    run = new_run()
    run.claim(1, 0)
    odd = dict.fromkeys(("loss", "tokens_per_second", "mfu_ratio", "memory_bytes", "tokens", "time"), value)
    run.lines(1, "training", [training(1, 1), {**training(2, 2), **odd}])
    run.lines(1, "gpu", [{**gpu(1, 1, 0, 0.5), "utilization_ratio": value, "name": value}])
    run.lines(1, "performance", [{**account(1, 1, training=1), "shares": value, "hosts": value, "slowest_rank": value}])
    run.lines(1, "events", [{"kind": value, "reason": value, "message": value, "step": value}])
    report = report_run(run.url).report
    assert (report.step, report.loss, report.nonfinite_lines) == (2, 4.99, 1)
    json.loads(json.dumps(report.as_dict(), allow_nan=False))


def test_clocks_that_were_set_back(new_run: Callable[..., Run]) -> None:
    run = new_run()
    run.claim(1, 1000)
    run.lines(1, "training", [training(step, second) for step, second in ((1, 1001), (2, 500), (3, 501), (4, 1010))])
    run.claim(2, 900, base="step-00000004-a0001")
    report = report_run(run.url).report
    assert report.wall_seconds == 110
    assert report.attempts[1].idle_seconds == 0


@pytest.mark.parametrize(
    ("path", "found", "fix"),
    [
        ("runs/none", "none is not a run", "nothing is there"),
        ("runs", "runs is not a run", "runs/demo"),
        ("runs/empty", "empty holds no attempt", "gpt-run train"),
        ("runs/demo/run.yaml", "run.yaml is not a run", "nothing is there"),
    ],
)
def test_where_nothing_can_be_shown(killed_and_scaled: Run, path: str, found: str, fix: str) -> None:
    root = killed_and_scaled.folder.parent.parent
    (root / "runs" / "empty" / "attempts").mkdir(parents=True)
    with pytest.raises(UserError, match=found) as caught:
        report_run(str(root / path))
    assert fix in caught.value.fix


def test_only_a_claim_or_only_lines_are_enough(new_run: Callable[..., Run]) -> None:
    claimed, logged = new_run("claimed"), new_run("logged")
    claimed.claim(1, 0)
    report = report_run(claimed.url).report
    assert (len(report.attempts), report.step, report.end) == (1, None, None)
    logged.lines(1, "training", [training(1, 1)])
    report = report_run(logged.url).report
    assert (report.step, report.attempts[0].started_at) == (1, report.attempts[0].last_sign_at)
    assert "claims of attempts" in " ".join(report.missing)


def test_many_warnings_are_counted(new_run: Callable[..., Run]) -> None:
    run = new_run()
    for attempt in range(1, 31):
        run.write(f"attempts/a{attempt:04d}.json", "")
    report = report_run(run.url).report
    assert len(report.attempts) == 30
    assert len(report.warnings) == 21
    assert report.warnings[-1] == "and 10 more warnings"


def test_the_last_point_of_the_account_stays_however_many_lines_there_are() -> None:
    fold = PerformanceFold()
    for second in range(10_000):
        fold.add(1, float(second), {"goodput_seconds": {"training": second + 1.0}})
        assert fold.points[-1].seconds == second
    assert 2000 < len(fold.points) < 4097
