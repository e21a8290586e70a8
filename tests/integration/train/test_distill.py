"""Distillation and adapters in whole processes: any world size, resumed, cached, exported; what is wrong is said."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.integration.train.conftest import MakeTraining, Warm
from tests.integration.training import Training
from trainer.checkpoint.references import resolve_url
from trainer.checkpoint.tensors import load_model_tensors
from trainer.evaluate.pretrained import build_pretrained, load_pretrained, load_weights
from trainer.model.additions import is_addition
from trainer.model.config import GPT2Config, LoraConfig
from trainer.model.decoder import Decoder
from trainer.model.lora import add_adapters

STUDENT = {"family": "gpt2", "vocab_size": 512, "context": 32, "layers": 1, "width": 32, "heads": 2}
SHORT: dict[str, Any] = {"steps": 6, "checkpoint": {"every_steps": 3, "keep": {"rolling": 100}}}
LORA = {"rank": 3, "alpha": 6, "dropout": 0.0, "targets": ["attention.qkv", "mlp.down"]}


@pytest.fixture(scope="module")
def trained_teacher(tmp_path_factory: pytest.TempPathFactory, dataset: Path, warm: Warm) -> Training:
    """To read alone."""
    training = Training(tmp_path_factory.mktemp("teacher"), dataset, SHORT)
    assert warm.worker(training).code == 0
    return training


@pytest.fixture
def teacher(trained_teacher: Training, make_training: MakeTraining) -> Training:
    """A copy of it."""
    copy = make_training(**SHORT)
    shutil.copytree(trained_teacher.run, copy.run)
    return copy


def student_of(make_training: MakeTraining, teacher: Training, **distill: Any) -> Training:
    return make_training(**SHORT, task="distill", model=STUDENT, distill={"teacher": str(teacher.run), **distill})


def losses(training: Training, attempt: str) -> list[float]:
    return [loss for _, (loss, _) in sorted(training.steps(attempt).items())]


def test_a_student_learns_the_same_at_any_world_size_and_after_a_stop(
    make_training: MakeTraining, warm: Warm, teacher: Training
) -> None:
    hidden = {"layers": [[1, 2]], "weight": 0.5}
    alone, together = (student_of(make_training, teacher, hidden=hidden) for _ in range(2))
    ended = warm.worker(alone)
    assert ended.code == 0, ended.text
    assert "teacher " in ended.text
    assert warm.worker(together, ranks=3).code == 0
    assert losses(together, "a0001") == pytest.approx(losses(alone, "a0001"), abs=1e-5)
    assert [line[1] for line in alone.steps().values()] == [line[1] for line in together.steps().values()]
    for record in alone.records():
        if "loss" in record:
            parts = record["cross_entropy"], record["divergence"], record["hidden_loss"]
            assert record["loss"] == pytest.approx(0.5 * parts[0] + 0.5 * 4 * parts[1] + 0.5 * parts[2], rel=1e-5)

    # The teacher's newest checkpoint is another one now: a run that began with the old one keeps it.
    assert warm.worker(teacher, "steps=9").code == 0
    assert warm.worker(alone, "resume=step:3").code == 0
    assert losses(alone, "a0002") == losses(alone, "a0001")[3:]
    stored = load_model_tensors(resolve_url(str(alone.run)))
    assert {name for name in stored if is_addition(name)} == {"projections.0.weight"}
    assert load_weights(str(alone.run)).tensors.keys() == Decoder(GPT2Config(**_sizes(STUDENT))).state_dict().keys()
    (checkpoint,) = alone.run.glob("checkpoints/step-00000003-a0001")
    recorded = json.loads((checkpoint / "progress.json").read_text())["teacher"]
    assert recorded["url"].endswith("step-00000006-a0001")
    assert recorded["sha256"] in (checkpoint / "config.yaml").read_text()


def test_the_cache_trains_as_the_live_teacher_does(
    make_training: MakeTraining, warm: Warm, teacher: Training, dataset: Path, tmp_path: Path
) -> None:
    own = tmp_path / "data"
    shutil.copytree(dataset, own)
    live, cached = (student_of(make_training, teacher, top_k=8) for _ in range(2))
    data = f"data.train={own}"
    assert warm.worker(live, data).code == 0
    warm.worker(cached, data, "distill.cache=true").refused("teacher.json is not there", "gpt-run data teach")
    taught = warm.command(cached, "data", "teach", "run.yaml", "--set", data, "--json")
    assert taught.code == 0, taught.text
    (folder,) = (own / "teacher").iterdir()
    assert json.loads(taught.text.splitlines()[-1])["folders"] == [str(folder)]
    # Without the teacher's weights in memory, and on more ranks than before.
    assert warm.worker(cached, data, "distill.cache=true", ranks=2).code == 0
    assert losses(cached, "a0001") == pytest.approx(losses(live, "a0001"), abs=1e-5)


def test_teachers_that_do_not_fit_are_refused(make_training: MakeTraining, warm: Warm, teacher: Training) -> None:
    student = student_of(make_training, teacher)
    warm.worker(student, "model.vocab_size=600").refused("has 512 tokens, model.vocab_size is 600")
    warm.worker(student, "distill.teacher=runs/nobody").refused("distill.teacher", "runs/nobody")
    assert not (student.run / "attempts").exists()


def test_adapters_resume_reshard_and_merge(make_training: MakeTraining, warm: Warm, teacher: Training) -> None:
    changes = {**SHORT, "task": "finetune", "initial_weights": str(teacher.run), "lora": LORA}
    alone, together = make_training(**changes), make_training(**changes)
    ended = warm.worker(alone)
    assert ended.code == 0, ended.text
    assert warm.worker(together, ranks=2).code == 0
    assert losses(together, "a0001") == pytest.approx(losses(alone, "a0001"), abs=1e-5)
    assert warm.worker(alone, "resume=step:3").code == 0
    assert losses(alone, "a0002") == losses(alone, "a0001")[3:]

    # A checkpoint stands alone: what it is based on may go.
    base = load_weights(str(teacher.run)).tensors
    shutil.rmtree(teacher.run)
    stored = load_model_tensors(resolve_url(str(alone.run)))
    assert all(torch.equal(stored[name], tensor) for name, tensor in base.items())
    assert any(stored[name].any() for name in stored if name.endswith("lora_up"))
    weights = load_weights(str(alone.run))
    with torch.device("meta"):
        adapted = Decoder(weights.config)
        add_adapters(adapted, LoraConfig(**LORA))
    adapted.load_state_dict(stored, assign=True)
    tokens_BT = torch.arange(64).reshape(2, 32)
    export = warm.command(alone, "checkpoints", "export", str(alone.run), "--output", "exported")
    assert export.code == 0, export.text
    exported = load_pretrained(str(alone.folder / "exported")).model
    with torch.no_grad():
        expected = adapted(tokens_BT)
        torch.testing.assert_close(exported(tokens_BT), expected, rtol=0, atol=1e-5)
        torch.testing.assert_close(build_pretrained(weights).model(tokens_BT), expected, rtol=0, atol=1e-5)
    evaluated = warm.worker(alone, "task=evaluate")
    assert evaluated.code == 0, evaluated.text

    # The next task starts from them, merged.
    starts = (str(alone.run), str(alone.folder / "exported"))
    onward = [make_training(**SHORT, task="finetune", initial_weights=start) for start in starts]
    for training in onward:
        assert warm.worker(training).code == 0
    assert losses(onward[0], "a0001") == pytest.approx(losses(onward[1], "a0001"), abs=1e-5)


def _sizes(model: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in model.items() if key != "family"}
