"""What a user may get wrong about a run: exit 2, what was found, what to do, and a store as it was before."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.integration.servers import Server
from tests.integration.train.conftest import MakeTraining, Warm
from tests.integration.training import Training
from trainer.data.shards import load_dataset_json, write_dataset_json


@pytest.mark.parametrize(
    ("override", "found", "fix"),
    [
        ("chekpoint.every_steps=5", "chekpoint", "did you mean `checkpoint`"),
        ("batch.sequences=many", "batch.sequences", "integer"),
        ("model.heads=5", "width 48", "heads"),
        ("sequence_length=33", "longer than model.context 32", "shorten"),
        ("model.vocab_size=500", "its tokenizer has 512 tokens", "set model.vocab_size: 512"),
        ("resume=step:4", "no checkpoint 'step:4'", "checkpoints list"),
        ("precision=fp8", "precision: fp8 on cpu", "set precision: bf16"),
        ("evaluate.early_stopping.patience=2", "evaluate.every_steps", "above 0"),
    ],
)
def test_settings(override: str, found: str, fix: str, training: Training, warm: Warm) -> None:
    warm.worker(training, override).refused(found, fix)
    assert not training.run.exists()


def test_more_ranks_than_sequences(training: Training, warm: Warm) -> None:
    few = ["batch.sequences=1", "batch.micro_sequences=1"]
    warm.worker(training, *few, ranks=2).refused("2 ranks for batch.sequences 1", "start fewer ranks")
    assert not training.run.exists()


def test_ids_that_the_model_has_no_row_for(training: Training, warm: Warm) -> None:
    ids = np.full(4000, 511, dtype=np.uint16)
    ids[2000:] = 700
    ids.tofile(training.folder / "tokens.bin")
    ended = warm.worker(training, "data.train=tokens.bin", "steps=12")
    ended.refused("700", "model.vocab_size")
    assert training.checkpoints() == []


def test_shards(training: Training, dataset: Path, warm: Warm) -> None:
    warm.worker(training, "data.train=nothing-here").refused("nothing-here")

    copy = training.folder / "copy"
    shutil.copytree(dataset, copy)
    shard = copy / "train" / "shard-00001.arrow"
    whole = shard.read_bytes()
    for content in (whole[:-100], b""):
        shard.write_bytes(content)
        warm.worker(training, f"data.train={copy}").refused("shard-00001.arrow", f"{len(whole)} bytes")
    shard.unlink()
    warm.worker(training, f"data.train={copy}").refused("shard-00001.arrow")

    np.save(training.folder / "floats.npy", np.zeros(1000))
    warm.worker(training, "data.train=floats.npy").refused("floats.npy", "float64")
    (training.folder / "empty.bin").touch()
    warm.worker(training, "data.train=empty.bin").refused("empty.bin")
    assert not training.run.exists()


def test_sets_that_do_not_fit_together(training: Training, dataset: Path, warm: Warm) -> None:
    np.arange(4000, dtype=np.uint16).tofile(training.folder / "raw.bin")
    mask = ["data.document_mask=true", "model.vocab_size=4000"]
    warm.worker(training, *mask, "data.train=raw.bin").refused(
        "raw.bin (train) does not say which token ends", "prepare"
    )

    other = training.folder / "other"
    shutil.copytree(dataset, other)
    info = load_dataset_json((other / "dataset.json").read_bytes(), str(other))
    tokenizer = info.tokenizer.model_copy(update={"fingerprint": "0" * 64})
    write_dataset_json(other, info.model_copy(update={"tokenizer": tokenizer}))
    both = f"data.train=[{{path: '{dataset}'}}, {{path: '{other}'}}]"
    warm.worker(training, both).refused("several tokenizers", str(other), "the same tokenizer.json")
    assert not training.run.exists()


def test_a_checkpoint_that_does_not_fit(training: Training, warm: Warm) -> None:
    assert warm.worker(training, "steps=4", "checkpoint.every_steps=2").code == 0
    before = {path: path.read_bytes() for path in training.run.rglob("*") if path.is_file()}

    more = ["steps=8"]
    warm.worker(training, *more, "model.layers=3").refused("step-00000004-a0001", "configuration", "a new name")
    warm.worker(training, *more, "seed=2").refused("seed: 1 -> 2")
    warm.worker(training, *more, "batch.sequences=12").refused("batch.sequences: 10 -> 12")
    warm.worker(training, *more, "optimizer.type=muon").refused("optimizer")
    assert {path: path.read_bytes() for path in training.run.rglob("*") if path.is_file()} == before

    marker = training.run / "checkpoints" / "step-00000004-a0001" / "COMMITTED.json"
    marker.write_text(json.dumps(json.loads(marker.read_text()) | {"format": 2}))
    warm.worker(training, *more).refused("checkpoint format 2", "the program that wrote it")


def test_torn_and_flipped_checkpoints_are_passed_over_with_a_warning(training: Training, warm: Warm) -> None:
    assert warm.worker(training, "steps=6", "checkpoint.every_steps=2").code == 0
    checkpoints = training.run / "checkpoints"
    (checkpoints / "step-00000006-a0001" / "COMMITTED.json").unlink()
    flipped = checkpoints / "step-00000004-a0001" / "__0_0.distcp"
    data = bytearray(flipped.read_bytes())
    data[len(data) // 2] ^= 1
    flipped.write_bytes(data)

    ended = warm.worker(training, "steps=8", ranks=2)
    assert ended.code == 0
    assert "checkpoint step-00000004-a0001: __0_0.distcp has sha256" in ended.text
    assert training.claims()[-1]["base_checkpoint"] == "step-00000002-a0001"
    assert list(training.steps("a0002")) == [3, 4, 5, 6, 7, 8]

    # With none that is sound the run does not begin anew in silence.
    for marker in checkpoints.glob("*/COMMITTED.json"):
        (marker.parent / "progress.json").write_text("{}")
    warm.worker(training, "steps=8").refused("no usable checkpoint", "progress.json")
    assert len(training.claims()) == 2


def test_stores(make_training: MakeTraining, start_server: Callable[[str], Server], warm: Warm) -> None:
    training = make_training()
    server = start_server("s3")
    gone = "checkpoint.store=s3://no-such-bucket/runs"
    ended = warm.worker(training, gone, environment=server.environment)
    ended.refused("bucket 'no-such-bucket' does not exist", "create it")

    wrong = server.environment | {"AWS_SECRET_ACCESS_KEY": "not-the-secret-key"}  # pragma: allowlist secret
    ended = warm.worker(training, f"checkpoint.store={server.url}/runs", environment=wrong)
    ended.refused("access refused", "credentials")
    assert "not-the-secret-key" not in ended.text

    (training.folder / "file").touch()
    warm.worker(training, "checkpoint.store=file").refused("file", "folder")
    warm.worker(training, "checkpoint.store=s4://bucket/runs").refused("unknown kind of store", "s3://")
    warm.worker(training, "checkpoint.store=https://host/runs").refused("a web server cannot be listed", "s3://")
