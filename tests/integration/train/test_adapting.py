"""Fine-tuning and instruction tuning as whole processes: from a checkpoint, over world sizes, into Transformers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.integration.train.conftest import MakeTraining, Warm
from tests.integration.training import PIPELINE, Training
from trainer.data.prepare import prepare
from trainer.data.prepare.engine import Processes
from trainer.data.prepare.pipeline import ChatPipeline, Pipeline

T = 32
TALKS = [
    {"role": "user", "content": "What is it?"},
    {"role": "assistant", "content": "It is that, and no more."},
]


@pytest.fixture(scope="module")
def talks(tmp_path_factory: pytest.TempPathFactory, dataset: Path) -> Path:
    """A set of packed conversations."""
    folder = tmp_path_factory.mktemp("talks")
    lines = [
        json.dumps({"prompt": f"What is {number}?", "completion": f"It is {number % 7}." * (1 + number % 3)})
        for number in range(300)
    ]
    (folder / "talks.jsonl").write_text("\n".join(lines))
    pipeline = {
        "name": "talks",
        "output": "-",
        "sources": [{"type": "conversations", "path": str(folder / "talks.jsonl")}],
        "tokenizer": {"type": "file", "path": str(dataset)},
        "validation_fraction": 0.1,
        "chat": {"template": "plain", "sequence_length": T, "too_long": "cut"},
    }
    prepare(ChatPipeline.model_validate(pipeline), folder / "talks", engine=Processes(1))
    return folder / "talks"


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory, dataset: Path, warm: Warm) -> Training:
    """A run of three steps to start from; to read alone."""
    training = Training(tmp_path_factory.mktemp("base"), dataset, {"steps": 3})
    assert warm.worker(training).code == 0
    return training


def test_instruction_tuning_over_worlds_2_3_1_has_the_losses_of_one_left_alone(
    make_training: MakeTraining, warm: Warm, base: Training, talks: Path
) -> None:
    settings: dict[str, Any] = {
        "task": "sft",
        "steps": 9,
        "data": {"train": str(talks)},
        "initial_weights": f"{base.run}@step:3",
        "evaluate": {"every_steps": 9},
        # The same learning rate however long the run is said to be.
        "schedule": {"type": "cosine", "warmup_steps": 0, "final_ratio": 1.0},
    }
    alone, moved = make_training(**settings), make_training(**settings)
    assert warm.worker(alone).code == 0
    # Weights to start from are not looked at again: the run's own checkpoints are what it goes on from.
    assert warm.worker(moved, "steps=3", ranks=2).code == 0
    assert warm.worker(moved, "steps=6", "initial_weights=gone/too", ranks=3).code == 0
    assert warm.worker(moved, "initial_weights=gone/too").code == 0
    assert [claim["world_size"] for claim in moved.claims()] == [2, 3, 1]
    expected, found = alone.steps(), moved.steps()
    assert list(found) == list(expected) == list(range(1, 10))
    for step, (loss, batch) in found.items():
        assert batch == expected[step][1]
        assert loss == pytest.approx(expected[step][0], abs=1e-5)


def test_the_export_renders_what_was_trained_on(
    make_training: MakeTraining, warm: Warm, base: Training, talks: Path
) -> None:
    transformers = pytest.importorskip("transformers")
    tuned = make_training(task="sft", steps=2, data={"train": str(talks)}, initial_weights=str(base.run))
    assert warm.worker(tuned).code == 0
    exported = tuned.folder / "hf"
    assert warm.command(tuned, "checkpoints", "export", str(tuned.run), "--output", str(exported)).code == 0
    tokenizer = transformers.AutoTokenizer.from_pretrained(exported)
    expected = "Question: What is it?\nAnswer: It is that, and no more.<|endoftext|>\n"
    assert tokenizer.apply_chat_template(TALKS, tokenize=False) == expected
    prompt = tokenizer.apply_chat_template(TALKS[:1], tokenize=False, add_generation_prompt=True)
    assert prompt == "Question: What is it?\nAnswer:"


def test_fine_tuning_tells_what_is_learned_and_what_is_forgotten(
    make_training: MakeTraining, warm: Warm, base: Training, dataset: Path, tmp_path: Path
) -> None:
    docs = {
        **PIPELINE,
        "name": "docs",
        "sources": [{"type": "python-docstrings", "max_files": 8}],
        "tokenizer": {"type": "file", "path": str(dataset)},
    }
    prepare(Pipeline.model_validate(docs), tmp_path / "docs", engine=Processes(1))
    tuned = make_training(
        task="finetune",
        steps=4,
        data={"train": [{"path": str(tmp_path / "docs"), "weight": 3}, {"path": str(dataset)}]},
        initial_weights=str(base.run),
        evaluate={"every_steps": 2, "sequences": 8},
    )
    assert warm.worker(tuned).code == 0
    lines = [line for line in tuned.records("a0001") if "validation_loss" in line]
    assert [line["step"] for line in lines] == [0, 2, 4]
    assert lines[0]["forgetting"] == 0
    for line in lines:
        assert line["forgetting"] == line["general_loss"] - lines[0]["general_loss"]


def test_what_does_not_fit_is_refused(
    make_training: MakeTraining, warm: Warm, base: Training, talks: Path, dataset: Path, tmp_path: Path
) -> None:
    start = {"initial_weights": str(base.run)}
    other = {**PIPELINE, "name": "other", "tokenizer": {"type": "bpe", "vocab_size": 512, "sample_bytes": 50_000}}
    prepare(Pipeline.model_validate(other), tmp_path / "other", engine=Processes(1))
    whole = {
        **PIPELINE,
        "name": "whole",
        "validation_fraction": 0.0,
        "tokenizer": {"type": "file", "path": str(dataset)},
    }
    prepare(Pipeline.model_validate(whole), tmp_path / "whole", engine=Processes(1))
    cases: list[tuple[dict[str, Any], tuple[str, ...]]] = [
        ({"task": "finetune"}, ("initial_weights: task finetune",)),
        ({"task": "sft", **start}, ("does not say which of its tokens are answers", "task: finetune")),
        ({"data": {"train": str(talks)}}, ("task pretrain", "packed conversations")),
        ({"task": "finetune", "data": {"train": str(talks)}, **start}, ("task finetune", "packed conversations")),
        ({"task": "finetune", "model": {"layers": 3}, **start}, ("another model", "model.layers: 3, there 2")),
        ({"task": "finetune", "data": {"train": str(tmp_path / "other")}, **start}, ("tokenizer of fingerprint",)),
        (
            {
                "task": "finetune",
                "data": {"train": [str(tmp_path / "whole"), str(dataset)]},
                "evaluate": {"every_steps": 1},
                **start,
            },
            ("the domain, has no validation split",),
        ),
        ({"task": "finetune", "initial_weights": "nowhere"}, ("nowhere is no folder with a config.json",)),
        ({"task": "finetune", "initial_weights": f"{base.run}@step:77"}, ("no checkpoint 'step:77'",)),
        (
            {"task": "sft", "sequence_length": 16, "data": {"train": str(talks)}, **start},
            ("packed into sequences of 32 tokens",),
        ),
    ]
    for changes, parts in cases:
        training = make_training(**changes)
        warm.worker(training).refused(*parts)
        assert not (training.run / "attempts").exists()
