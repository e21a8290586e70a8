"""How a run ends, where it begins again, and what it writes on the way."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.integration.train.conftest import MakeTraining, Warm
from tests.integration.training import Training


def test_smoke_run_and_going_on_after_the_end(training: Training, warm: Warm) -> None:
    ended = warm.worker(training, "steps=10", "log.every_steps=4")
    assert ended.code == 0
    assert [record["step"] for record in training.records()] == [4, 8, 10]
    assert "finished at step 10 of 10" in ended.text
    checkpoint = training.run / "checkpoints" / "step-00000010-a0001"
    assert f"checkpoint: {checkpoint}" in ended.text

    ended = warm.worker(training, "steps=10")
    assert ended.code == 0
    assert f"run small is complete: {checkpoint} is of step 10, the run's length is 10 steps" in ended.text
    assert training.checkpoints() == [checkpoint.name]
    assert len(training.claims()) == 1


def test_every_line_of_the_log_has_the_agreed_fields(training: Training, warm: Warm) -> None:
    pod = {"GPTRUN_LOG": "json", "GPTRUN_POD": "demo-worker-0"}
    ended = warm.worker(training, "steps=2", "evaluate.every_steps=2", environment=pod)
    assert ended.code == 0
    step, _, evaluation = training.records()
    agreed = "time run attempt step tokens epoch loss lr grad_norm batch_sha256 tokens_per_second step_seconds "
    agreed += "mfu_ratio world_size memory_bytes eta_seconds"
    assert set(agreed.split()) <= step.keys()
    assert {"time", "run", "attempt", "step", "validation_loss", "perplexity", "bits_per_byte"} <= evaluation.keys()
    assert (step["run"], step["attempt"], step["step"], step["tokens"]) == ("small", "a0001", 1, 320)
    printed = [json.loads(line) for line in ended.text.splitlines() if line.startswith('{"time"')]
    assert printed == training.records()


def test_epochs_and_tokens_as_the_end(make_training: MakeTraining, warm: Warm) -> None:
    training = make_training(steps=None)
    assert warm.worker(training, "tokens=3201", "log.every_steps=100").code == 0
    assert [record["step"] for record in training.records()] == [11]

    assert warm.worker(training, "name=epochs", "epochs=0.03", "log.every_steps=100").code == 0
    (marker,) = training.folder.glob("runs/epochs/checkpoints/*/COMMITTED.json")
    committed = json.loads(marker.read_text())
    assert 0.03 <= committed["epoch"] < 0.03 + committed["epoch"] / committed["step"]


def test_early_stopping_and_not_starting_again_after_it(training: Training, warm: Warm) -> None:
    stops = ["evaluate.every_steps=2", "evaluate.early_stopping.patience=2", "evaluate.early_stopping.min_delta=100"]
    ended = warm.worker(training, *stops)
    assert ended.code == 0
    assert "ended early, validation no longer improves, at step 6 of 24" in ended.text
    assert training.checkpoints() == ["step-00000006-a0001"]

    assert warm.worker(training, *stops).code == 0
    assert max(training.steps()) == 6
    assert training.checkpoints() == ["step-00000006-a0001"]

    assert warm.worker(training, *stops, "evaluate.early_stopping.patience=4").code == 0
    assert max(training.steps()) == 10


def test_evaluation_prints_and_writes_nothing(training: Training, warm: Warm) -> None:
    warm.worker(training, "task=evaluate").refused("holds no checkpoint to evaluate", "train first")
    assert not training.run.exists()

    # At two ranks with 7 sequences one has fewer, in the last micro-batch none.
    evaluate = ["evaluate.every_steps=8", "evaluate.sequences=7", "batch.micro_sequences=3"]
    assert warm.worker(training, *evaluate, "steps=8").code == 0
    known = training.records()[-1]
    before = everything_below(training.run)
    for ranks in (1, 2):
        ended = warm.worker(training, *evaluate, "task=evaluate", ranks=ranks, environment={"GPTRUN_LOG": "json"})
        assert ended.code == 0
        (line,) = [json.loads(line) for line in ended.text.splitlines() if "validation_loss" in line]
        for key in ("validation_loss", "perplexity", "bits_per_byte"):
            assert line[key] == pytest.approx(known[key], rel=1e-6)
        assert line["step"] == 8
        assert "step-00000008-a0001: validation over 7 sequences" in ended.text
    assert everything_below(training.run) == before


def everything_below(folder: Path) -> dict[str, int]:
    """All files with the time of their last change."""
    return {str(path): path.stat().st_mtime_ns for path in folder.rglob("*")}


@pytest.mark.slow
def test_resume_references(training: Training, warm: Warm) -> None:
    base = ["steps=12", "checkpoint.every_steps=4"]
    assert warm.worker(training, *base, "evaluate.every_steps=4").code == 0
    losses = {record["step"]: record["validation_loss"] for record in training.records() if "validation_loss" in record}
    best = min(losses, key=lambda step: losses[step])
    first = [f"step-{step:08d}-a0001" for step in (4, 8, 12)]
    assert training.checkpoints() == first
    # Retention drops what a later attempt branched off from, unless it is pinned.
    for name in first:
        assert warm.command(training, "checkpoints", "pin", f"runs/small@{name}").code == 0

    url = f"{training.run}/checkpoints/{first[0]}"
    starts = {
        "resume=step:4": (5, first[0]),
        f"resume={first[1]}": (9, first[1]),
        "resume=best": (best + 1, f"step-{best:08d}-a0001"),
        f"resume={url}": (5, first[0]),
        "resume=none": (1, None),
    }
    for reference, (step, checkpoint) in starts.items():
        assert warm.worker(training, *base, "steps=16", reference).code == 0
        claim = training.claims()[-1]
        assert claim["base_checkpoint"] == checkpoint, reference
        done = list(training.steps(f"a{claim['attempt']:04d}"))
        assert done == list(range(step, 17)), reference
    # Begun once, the same run file goes on: a preemption must not lead back to where it began.
    assert warm.worker(training, *base, "steps=16", "resume=none").code == 0
    assert training.claims()[-1]["base_checkpoint"] is None
    assert len(training.claims()) == 6
    # Where an attempt began anew, `latest` follows it.
    assert warm.worker(training, *base, "steps=20").code == 0
    assert training.claims()[-1]["base_checkpoint"] == "step-00000016-a0006"

    # Another run may begin from this one's checkpoint: of the two with step 8, the one that led to the newest.
    other = [*base, "name=other", f"resume={training.run}@step:8"]
    assert warm.worker(training, *other).code == 0
    claim = json.loads((training.folder / "runs/other/attempts/a0001.json").read_text())
    assert claim["base_checkpoint"].endswith("/runs/small/checkpoints/step-00000008-a0006")

    warm.worker(training, *base, "resume=step:7").refused("no checkpoint 'step:7'", first[2])
    warm.worker(training, *base, "resume=newest").refused("no checkpoint 'newest'", first[2])
    warm.worker(training, *base, f"resume={training.run}/checkpoints/step-00000007-a0001").refused(
        "step-00000007-a0001"
    )


def test_saves_by_time_and_by_epochs(training: Training, warm: Warm) -> None:
    # In the background a save that is due by the clock would wait for the one before it.
    each = ["checkpoint.every_seconds=0.000001", "checkpoint.asynchronous=false"]
    assert warm.worker(training, "steps=3", *each).code == 0
    assert [name[:13] for name in training.checkpoints()] == ["step-00000001", "step-00000002", "step-00000003"]

    assert warm.worker(training, "name=epochs", "steps=7", "checkpoint.every_epochs=0.005").code == 0
    per_step = next(record["epoch"] for record in training.records())
    expected = {step for step in range(1, 8) if int(step * per_step / 0.005) > int((step - 1) * per_step / 0.005)} | {7}
    saved = sorted((training.folder / "runs/epochs/checkpoints").iterdir())
    assert {int(folder.name[5:13]) for folder in saved} == expected


def test_document_masks_change_what_is_seen_and_not_what_is_read(make_training: MakeTraining, warm: Warm) -> None:
    plain, masked = make_training(), make_training(data={"document_mask": True})
    for training in (plain, masked):
        # Sequences as long as many of the files, so that several documents share one.
        longer = ["model.context=256", "sequence_length=256", "steps=4", "evaluate.every_steps=4"]
        assert warm.worker(training, *longer).code == 0
    assert [each[1] for each in plain.steps().values()] == [each[1] for each in masked.steps().values()]
    # Not at every step: a batch may have sequences of one document each.
    assert _losses(plain) != _losses(masked)

    # At another world size the same losses, and for the checkpoint alone the same validation.
    both = make_training(data={"document_mask": True})
    assert warm.worker(both, *longer, ranks=2).code == 0
    assert [each[0] for each in both.steps().values()] == pytest.approx([each[0] for each in _losses(masked)], abs=1e-5)
    ended = warm.worker(masked, *longer, "task=evaluate", environment={"GPTRUN_LOG": "json"})
    (again,) = (json.loads(line) for line in ended.text.splitlines() if line.startswith('{"time"'))
    assert again["validation_loss"] == pytest.approx(masked.records()[-1]["validation_loss"], abs=1e-6)


def _losses(training: Training) -> list[tuple[float, str]]:
    return list(training.steps().values())
