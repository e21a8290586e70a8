"""Throughput, hardware table, lines for people, the closing summary and the history file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.integration.limits import file_limit
from trainer.checkpoint.store import open_run
from trainer.metrics.console import RunConsole, human_number, human_seconds
from trainer.metrics.hardware import peak_flops_per_second
from trainer.metrics.history import History
from trainer.metrics.summary import closing_summary
from trainer.metrics.throughput import ThroughputMeter


def test_throughput_leaves_pauses_out() -> None:
    meter = ThroughputMeter(tokens_per_step=100, flops_per_token=6, peak_flops_per_second=1200.0, world_size=2)
    meter.start(10.0)
    for _ in range(4):
        meter.count_step()
    meter.pause(2.0)
    figures = meter.read(14.0, steps_left=10)
    assert figures.step_seconds == 0.5
    assert figures.tokens_per_second == 200.0
    assert figures.mfu_ratio == pytest.approx(200 * 6 / 2400)
    assert figures.eta_seconds == 5.0


@pytest.mark.parametrize(
    ("name", "peak"),
    [
        ("NVIDIA H100 80GB HBM3", 989e12),
        ("NVIDIA H200 NVL", 835e12),
        ("NVIDIA H100 PCIe", 756e12),
        ("NVIDIA H200", 989e12),
        ("NVIDIA H20", 148e12),
        ("NVIDIA A100-SXM4-80GB", 312e12),
        ("NVIDIA L40S", 362e12),
        ("NVIDIA A10G", 70e12),
        ("NVIDIA GeForce RTX 4090", None),
        ("cpu", None),
    ],
)
def test_peaks_of_known_hardware_only(name: str, peak: float | None) -> None:
    assert peak_flops_per_second(name) == peak


def test_numbers_for_people() -> None:
    assert [human_number(n) for n in (7, 12345, 2.5e6, 3e9)] == ["7", "12.3k", "2.5M", "3.0G"]
    assert [human_seconds(n) for n in (5, 65, 3725, 90000)] == ["5s", "1m05s", "1h02m", "1d01h"]
    assert human_seconds(float("inf")) == "unknown"


def test_a_line_shows_what_is_known(capsys: pytest.CaptureFixture[str]) -> None:
    console = RunConsole(total_steps=100, first_step=0, rank=0)
    console.metrics({"step": 5, "loss": 2.5, "lr": 1e-3, "grad_norm": 1.0, "tokens_per_second": 1e4, "mfu_ratio": None})
    assert capsys.readouterr().out == "step   5/100  loss 2.5000  lr 1.00e-03  grad norm 1.000  10.0k tokens/s\n"


def test_json_lines_on_request(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GPTRUN_LOG", "json")
    console = RunConsole(total_steps=1, first_step=0, rank=0)
    console.say("hello")
    assert json.loads(capsys.readouterr().out) == {"message": "hello"}


def test_the_bar_of_a_resumed_run_begins_where_the_run_goes_on(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"FORCE_COLOR": "1", "TERM": "xterm-256color", "COLUMNS": "100"}.items():
        monkeypatch.setenv(name, value)
    console = RunConsole(total_steps=90, first_step=70, rank=0)
    started = capsys.readouterr().out
    assert "70/90" in started
    assert " 0/90" not in started
    console.step(71)
    console.say("hello")
    console.close()
    ended = capsys.readouterr().out
    assert "hello" in ended
    assert "71/90" in ended


def test_other_ranks_are_silent(capsys: pytest.CaptureFixture[str]) -> None:
    console = RunConsole(total_steps=1, first_step=0, rank=1)
    console.say("hello")
    console.metrics({"step": 1, "loss": 1.0})
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("reason", "next_line"), [("finished", "gpt-run generate"), ("preempted", "gpt-run train r.yaml")]
)
def test_summary_says_what_to_type_next(reason: str, next_line: str) -> None:
    text = closing_summary(
        reason=reason,
        step=5,
        total_steps=9,
        tokens=5000,
        loss=2.0,
        validation_loss=None,
        train_seconds=60,
        checkpoint_url="s3://b/r/checkpoints/step-00000005-a0001",
        run_url="s3://b/r",
        command="gpt-run train r.yaml",
    )
    assert "step 5 of 9" in text
    assert "step-00000005-a0001" in text
    assert next_line in text


def test_summary_quotes_a_path_for_the_shell() -> None:
    text = closing_summary(
        reason="finished",
        step=9,
        total_steps=9,
        tokens=9,
        loss=2.0,
        validation_loss=1.5,
        train_seconds=60,
        checkpoint_url="/my runs/r/checkpoints/step-00000009-a0001",
        run_url="/my runs/r",
        command="gpt-run train r",
    )
    assert "gpt-run generate '/my runs/r'" in text
    assert "gpt-run checkpoints export '/my runs/r'" in text


def test_history_of_a_local_store_grows_line_by_line(tmp_path: Path) -> None:
    history = History(open_run(str(tmp_path), "run"), "a0001")
    history.write({"step": 1}, now_seconds=0.0)
    file = tmp_path / "run/logs/a0001/training-000.jsonl"
    assert file.read_text() == '{"step": 1}\n'
    history.write({"step": 2}, now_seconds=1.0)
    history.close()
    assert [json.loads(line)["step"] for line in file.read_text().splitlines()] == [1, 2]


def test_history_of_a_disk_that_was_full_has_every_line(tmp_path: Path) -> None:
    history = History(open_run(str(tmp_path), "run"), "a0001")
    history.write({"step": 1}, now_seconds=0.0)
    file = tmp_path / "run/logs/a0001/training-000.jsonl"
    with file_limit(file.stat().st_size + 5):
        history.write({"step": 2}, now_seconds=1.0)
        history.write({"step": 3}, now_seconds=2.0)
        assert file.read_text() == '{"step": 1}\n'
    history.write({"step": 4}, now_seconds=3.0)
    assert [json.loads(line)["step"] for line in file.read_text().splitlines()] == [1, 2, 3, 4]
    history.close()


def test_history_of_an_object_store_is_uploaded_in_pieces() -> None:
    store = open_run("memory://history", "run")
    history = History(store, "a0002")
    history.write({"step": 1}, now_seconds=0.0)
    history.flush(now_seconds=1.0)
    history.write({"step": 2}, now_seconds=2.0)
    history.close()
    assert store.list_names("logs/a0002") == ["training-000.jsonl", "training-001.jsonl"]
    assert json.loads(store.read_bytes("logs/a0002/training-001.jsonl")) == {"step": 2}


def test_history_that_could_not_be_uploaded_comes_with_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    store = open_run("memory://outage", "run")
    history = History(store, "a0001")
    with monkeypatch.context() as outage:
        outage.setattr(store, "write_once", fails)
        for step in (1, 2):
            history.write({"step": step}, now_seconds=step)
            history.flush(now_seconds=step)
        history._uploads.submit(int).result()  # after both have failed
    assert store.list_names("logs/a0001") == []
    history.close()
    found = [store.read_bytes(f"logs/a0001/{name}") for name in store.list_names("logs/a0001")]
    assert [json.loads(lines)["step"] for lines in found] == [1, 2]


def fails(_path: str, _data: bytes) -> None:
    raise ConnectionError("the store is away")
