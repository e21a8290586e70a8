"""Points of runs as they lie in a store; the runs' files are written here, with losses of a known law."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from trainer.config_file import load_run_config, run_config_yaml
from trainer.errors import UserError
from trainer.model.size import count_parameters
from trainer.plan.scaling_law import FITS
from trainer.sweep.law.points import read_points, warnings_of
from trainer.sweep.law.report import LawRequest, report_law

LAW = FITS[0]
WIDTHS, TOKENS = (64, 128, 256), (10**6, 10**7, 10**8)


def write_run(store: Path, width: int, tokens: int, *, finished: bool = True, overrides: tuple[str, ...] = ()) -> Path:
    """A run of which one evaluation in the middle is far too high, as in the middle of a schedule."""
    name = f"w{width}-t{tokens}"
    config = load_run_config("tiny-gpt2", [f"model.width={width}", f"tokens={tokens}", f"name={name}", *overrides])
    loss = LAW.loss(count_parameters(config.model), tokens)
    logs = store / name / "logs" / "a0001"
    logs.mkdir(parents=True)
    (store / name / "run.yaml").write_text(run_config_yaml(config))
    base = {"time": "2026-01-01T00:00:00+00:00", "epoch": 0.5}
    lines = [
        {**base, "step": step, "tokens": tokens // 2 * step, "validation_loss": loss * factor}
        for step, factor in ((1, 1.5), (2, 1.0))
    ]
    (logs / "training-000.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    end = {**base, "kind": "finished" if finished else "stopped", "reason": "finished" if finished else "preempted"}
    (logs / "events-000.jsonl").write_text(json.dumps({**end, "message": "", "step": 2}) + "\n")
    return store / name


@pytest.fixture
def store(tmp_path: Path) -> Path:
    for width in WIDTHS:
        for tokens in TOKENS:
            write_run(tmp_path, width, tokens)
    return tmp_path


def test_the_last_losses_of_a_store_give_the_law_back(store: Path) -> None:
    report = report_law(LawRequest([str(store)], flops="1e15", bootstrap=20), lambda _: None)
    assert len(report.points) == 9
    assert report.largest_residual < 1e-3
    assert report.law.loss(1e8, 1e9) == pytest.approx(LAW.loss(1e8, 1e9), rel=0.01)
    assert report.warnings == ()


def test_unfinished_runs_are_left_out_by_name(store: Path) -> None:
    stopped = write_run(store, 32, 10**6, finished=False)
    found = read_points([str(store), str(store / "w64-t1000000")])
    assert len(found.points) == 9
    assert [line for line in warnings_of(found) if str(stopped) in line and "not finished" in line]


def test_a_run_that_diverged_at_its_end_is_no_point(store: Path) -> None:
    lines = store / "w64-t1000000/logs/a0001/training-000.jsonl"
    first, last = (json.loads(line) for line in lines.read_text().splitlines())
    lines.write_text(json.dumps(first) + "\n" + json.dumps({**last, "validation_loss": None}) + "\n")
    found = read_points([str(store)])
    assert len(found.points) == 8
    assert list(found.skipped.values()) == ["its last validation loss is not a number"]


def test_an_optimum_far_from_the_runs_is_warned_of(store: Path) -> None:
    report = report_law(LawRequest([str(store)], flops="1e21", bootstrap=2), lambda _: None)
    assert [text.split(" ", 1)[1].split(" of ")[0] for text in report.warnings] == [
        "parameters are far from those",
        "tokens are far from those",
    ]


def test_runs_of_two_tokenizers_are_no_law(store: Path) -> None:
    write_run(store, 32, 10**6, overrides=("model.vocab_size=512",))
    with pytest.raises(UserError, match="vocabularies of 512, 8192"):
        read_points([str(store)])


def test_too_few_are_refused_with_what_was_left_out(tmp_path: Path) -> None:
    write_run(tmp_path, 64, 10**6)
    write_run(tmp_path, 64, 10**7, finished=False)
    with pytest.raises(UserError) as error:
        read_points([str(tmp_path)])
    assert "1 finished runs" in str(error.value)
    assert "w64-t10000000: it is not finished" in str(error.value)
