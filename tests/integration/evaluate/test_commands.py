"""`gpt-run eval` as a user calls it, on real runs, on a disk and on S3; what it refuses, and how it watches."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.integration.servers import Server
from tests.integration.training import Training, wait_until
from tests.integration.warm import Ended, Warm

KEYS = {"validation_loss", "perplexity", "bits_per_byte", "sequences", "sequence_length", "dataset"}


def found(ended: Ended) -> dict[str, Any]:
    """The JSON that a command printed last."""
    assert ended.code == 0, ended.text
    result: dict[str, Any] = json.loads(ended.text.splitlines()[-1])
    return result


def records(training: Training, name: str) -> dict[str, dict[str, Any]]:
    """The evaluations called `name`, by checkpoint."""
    files = training.run.glob(f"checkpoints/*/eval-{name}.json")
    return {file.parent.name: json.loads(file.read_text()) for file in files}


def test_a_checkpoint_is_worth_what_training_said(trained: Training, warm: Warm, dataset: Path) -> None:
    lines = {line["step"]: line for line in trained.records() if "validation_loss" in line}
    for reference, step in (("runs/small", 30), ("runs/small@step:20", 20), ("runs/small@best", 30)):
        result = found(warm.command(trained, "eval", reference, "--json"))
        assert result["step"] == step
        assert result.keys() >= KEYS
        for key in ("validation_loss", "perplexity", "bits_per_byte"):
            assert result[key] == pytest.approx(lines[step][key], rel=1e-6)
        assert (result["sequences"], result["sequence_length"], result["dataset"]) == (16, 32, str(dataset))


def test_everything_at_once_is_written_once(own: Training, warm: Warm, dataset: Path, items: Path) -> None:
    more = ("--data", str(dataset), "--data", str(dataset), "--sequences", "0", "--hellaswag", str(items))
    texts = ("--prompt", "def main", "--max-tokens", "5", "--against-training", "--write", "wide")
    result = found(warm.command(own, "eval", "runs/small", *more, *texts, "--json"))
    assert len(result["sets"]) == 2
    assert result["sets"][0] == result["sets"][1]
    assert result["sequences"] > 256
    assert result["hellaswag"]["items"] == 20
    assert [sample["prompt"] for sample in result["samples"]] == ["def main"]
    # After 30 steps of 12,000 it has seen nothing twice.
    assert result["training"]["verdict"] == "tracks"
    assert abs(result["training"]["gap"]) < 0.3

    assert records(own, "wide") == {"step-00000030-a0001": result}
    again = warm.command(own, "eval", "runs/small", "--write", "wide")
    again.refused("eval-wide.json exists already", "choose another --write NAME")
    shown = found(warm.command(own, "eval", "runs/small", "--write", "second", "--json"))
    assert records(own, "second")["step-00000030-a0001"] == shown
    # It is no part of what was committed.
    assert warm.command(own, "checkpoints", "verify", "runs/small").code == 0
    listed = json.loads(warm.command(own, "checkpoints", "show", "runs/small", "--json").text)
    assert set(listed["evaluations"]) == {"wide", "second"}


def test_a_model_that_has_seen_few_sequences_many_times_has_over_fitted(tmp_path: Path, warm: Warm) -> None:
    """Random ids, of which there is nothing to learn but the ids themselves."""
    ids = np.random.default_rng(1).integers(1, 512, 2000).astype(np.uint16)
    (tmp_path / "tokens").mkdir()
    ids[:1000].tofile(tmp_path / "tokens" / "train.bin")
    ids[1000:].tofile(tmp_path / "tokens" / "val.bin")
    settings = {"steps": 150, "sequence_length": 16, "optimizer": {"lr": 1e-2}}
    training = Training(tmp_path / "few", tmp_path / "tokens", settings)
    assert warm.worker(training).code == 0
    ended = warm.command(training, "eval", "runs/small", "--against-training", "--json")
    result = found(ended)["training"]
    assert result["verdict"] == "over-fit"
    assert result["gap"] > 1
    assert "over-fit: the model knows" in warm.command(training, "eval", "runs/small", "--against-training").text


def test_what_is_refused(trained: Training, warm: Warm, dataset: Path, tmp_path: Path) -> None:
    warm.command(trained, "eval", "runs/none").refused("runs/none has no checkpoint")
    warm.command(trained, "eval", "runs/small@step:7").refused("no checkpoint 'step:7'")
    warm.command(trained, "eval", "runs/small", "--data", "none").refused("none does not exist")
    warm.command(trained, "eval", "runs/small", "--hellaswag", "none.jsonl").refused("none.jsonl: no such file")
    warm.command(trained, "eval", "runs/small", "--watch").refused("without --write NAME")
    warm.command(trained, "eval", "runs/small@best", "--watch", "--write", "a").refused("<store>/<run>")
    warm.command(trained, "eval", "runs/small", "--write", "A B").refused("--write A B")
    broken = tmp_path / "items.jsonl"
    broken.write_text('{"ctx": "a", "endings": ["b", "c"], "label": 0}\n{"ctx": \n')
    warm.command(trained, "eval", "runs/small", "--hellaswag", str(broken)).refused("items.jsonl, line 2: ")
    other = json.loads((dataset / "tokenizer.json").read_text())
    other["model"]["merges"] = other["model"]["merges"][:-1]
    (tmp_path / "other.json").write_text(json.dumps(other))
    prompt = ("--prompt", "def", "--tokenizer", str(tmp_path / "other.json"))
    warm.command(trained, "eval", "runs/small", *prompt).refused("was trained on the ids of", "--tokenizer FILE")


def test_torn_and_damaged_checkpoints_are_neither_evaluated_nor_exported(own: Training, warm: Warm) -> None:
    newest = own.run / "checkpoints" / own.checkpoints()[-1]
    part = newest / "__0_0.distcp"
    part.write_bytes(part.read_bytes()[:-1])
    export = ("checkpoints", "export", "runs/small@step:30", "--output", "model")
    for command in (("eval", "runs/small@step:30"), export):
        warm.command(own, *command).refused("__0_0.distcp has", "were committed", "checkpoints verify")
    (newest / "COMMITTED.json").unlink()
    name = newest.name
    for command in (
        ("eval", f"runs/small@{name}"),
        ("checkpoints", "export", f"runs/small@{name}", "--output", "model"),
    ):
        warm.command(own, *command).refused(f"{name} was never committed")
    assert not (own.folder / "model").exists()


def test_watching_a_run_that_trains(dataset: Path, tmp_path: Path, warm: Warm) -> None:
    """The watcher is started before the run and killed in the middle; a second one does what is left."""
    training = Training(tmp_path, dataset, {"steps": 60, "checkpoint": {"every_steps": 10}})
    watch = ("eval", "runs/small", "--watch", "--write", "w", "--poll-seconds", "0.2", "--sequences", "8", "--json")
    first = warm.start(training, *watch)
    first.wait_for("waiting for the next checkpoint")
    worker = warm.workers(training)[0]
    wait_until(lambda: bool(records(training, "w")))
    # As a node that is drained does; it ends at once.
    os.kill(first.pid, signal.SIGTERM)
    assert first.wait() == 75
    before = records(training, "w")
    second = warm.command(training, *watch)
    assert worker.wait() == 0
    assert second.code == 0, second.text
    assert "is finished, and all that is left of it is evaluated" in second.text
    found = records(training, "w")
    assert sorted(found) == training.checkpoints()
    assert {name: found[name] for name in before} == before
    lines = [json.loads(line) for line in second.text.splitlines() if line.startswith("{")]
    assert {line["checkpoint"] for line in lines} == found.keys() - before.keys()
    # A run that is over and evaluated.
    assert warm.command(training, *watch).code == 0


def test_checkpoints_that_are_pruned_under_the_watcher(own: Training, warm: Warm) -> None:
    """The file of one is taken away before it is read, as retention does after the marker."""
    first, second, third = own.checkpoints()
    shutil.rmtree(own.run / "checkpoints" / first)
    part = own.run / "checkpoints" / second / "__0_0.distcp"
    part.unlink()
    ended = warm.command(own, "eval", "runs/small", "--watch", "--write", "w", "--sequences", "8")
    assert ended.code == 0, ended.text
    assert f"checkpoint {second}: __0_0.distcp is missing; passed over" in ended.text
    assert records(own, "w").keys() == {third}


@pytest.fixture
def bucket(start_server: Callable[[str], Server], trained: Training) -> tuple[str, dict[str, str]]:
    """The trained run in a bucket: its URL, and the environment of clients."""
    server = start_server("s3")
    folder = f"{server.url}/evaluate"
    copy = "import fsspec, sys; fs, to = fsspec.url_to_fs(sys.argv[2]); fs.put(sys.argv[1], to, recursive=True)"
    command = [sys.executable, "-c", copy, f"{trained.run}/", f"{folder}/small/"]
    subprocess.run(command, env=os.environ | server.environment, check=True, timeout=120)
    return f"{folder}/small", server.environment


def test_a_run_in_a_bucket(bucket: tuple[str, dict[str, str]], trained: Training, warm: Warm) -> None:
    url, environment = bucket
    watch = ("eval", url, "--watch", "--write", "w", "--sequences", "8", "--json")
    ended = warm.command(trained, *watch, environment=environment)
    assert ended.code == 0, ended.text
    lines = [json.loads(line) for line in ended.text.splitlines() if line.startswith("{")]
    assert [line["step"] for line in lines] == [30, 20, 10]
    again = warm.command(trained, "eval", f"{url}@best", "--write", "w", environment=environment)
    again.refused("eval-w.json exists already")
    shown = json.loads(warm.command(trained, "checkpoints", "show", url, "--json", environment=environment).text)
    assert shown["evaluations"]["w"] == lines[0]
