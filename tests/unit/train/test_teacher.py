"""Which teacher a run takes, what does not fit it, and what its settings and steps cost."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer

from trainer.config import RunConfig
from trainer.config_file import load_run_config
from trainer.data.split import TokenizerInfo
from trainer.data.tokenizer import tokenizer_fingerprint, train_bpe
from trainer.errors import UserError
from trainer.evaluate.identity import ModelIdentity
from trainer.model.config import GPT2Config
from trainer.model.decoder import Decoder
from trainer.model.hf import export_hf
from trainer.model.init import initialise
from trainer.model.size import count_adapter_parameters, flops_per_token, trained_flops_per_token
from trainer.train.config import DistillConfig
from trainer.train.teacher import LiveTeacher, check_teacher, find_teacher

MODEL = GPT2Config(vocab_size=8192, context=256, layers=2, width=32, heads=2)


def config_of(*overrides: str) -> RunConfig:
    return load_run_config("tiny-distill", list(overrides))


def description(**changes: object) -> ModelIdentity:
    return ModelIdentity("runs/t", MODEL.model_copy(update=changes), "a" * 64, "b" * 64)


@pytest.fixture
def folder(tmp_path: Path) -> str:
    model = Decoder(MODEL)
    initialise(model, seed=1)
    export_hf(dict(model.named_parameters()), MODEL, tmp_path / "hf")
    return str(tmp_path / "hf")


@pytest.mark.parametrize(
    ("changes", "tokenizer", "complaint"),
    [
        ({"vocab_size": 50257}, None, r"has 50257 tokens, model\.vocab_size is 8192"),
        ({}, "c" * 64, r"tokenizer bbbbbbbbbbbb\.\.\., the data has those of cccccccccccc"),
        ({"context": 128}, None, r"accepts 128 tokens, sequence_length is 256"),
        ({"layers": 1}, None, r"block 2 of runs/t, which has 1"),
    ],
)
def test_a_teacher_that_cannot_teach_is_refused(changes: dict[str, int], tokenizer: str | None, complaint: str) -> None:
    config = config_of("distill.hidden.layers=[[1, 1], [2, 2]]")
    info = TokenizerInfo("t", tokenizer, vocab_size=8192, eos_id=0, path=None) if tokenizer else None
    check_teacher(config, description(), None)
    with pytest.raises(UserError, match=complaint):
        check_teacher(config, description(**changes), info)


def test_a_tokenizer_that_was_saved_in_another_form_is_the_same(tmp_path: Path) -> None:
    ours, theirs = train_bpe(["the same text " * 9], 300), train_bpe(["the same text " * 9], 300)
    theirs.enable_truncation(8)
    other = train_bpe(["quite another one " * 9], 300)
    files = {name: tmp_path / name for name in ("ours", "theirs", "other")}
    for name, tokenizer in (("ours", ours), ("theirs", theirs), ("other", other)):
        tokenizer.save(str(files[name]))
    info = TokenizerInfo("t", tokenizer_fingerprint(ours), vocab_size=8192, eos_id=0, path=str(files["ours"]))
    check_teacher(config_of(), read_by(theirs, files["theirs"]), info)
    with pytest.raises(UserError, match="the same id means another text"):
        check_teacher(config_of(), read_by(other, files["other"]), info)


def read_by(tokenizer: Tokenizer, file: Path) -> ModelIdentity:
    """A teacher with this tokenizer."""
    return replace(description(), tokenizer_sha256=tokenizer_fingerprint(tokenizer), tokenizer_file=file)


def test_a_teacher_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"distill\.teacher: "):
        find_teacher(DistillConfig(teacher=str(tmp_path / "runs" / "none")), None)


def test_a_run_keeps_the_teacher_that_it_began_with(folder: str, tmp_path: Path) -> None:
    record, found = find_teacher(DistillConfig(teacher=folder), None)
    assert (record.reference, record.url, found.config) == (folder, folder, MODEL)
    before = {"reference": "runs/base@best", "url": folder, "sha256": record.sha256}
    again, _ = find_teacher(DistillConfig(teacher="runs/base@best"), before)
    assert (again.reference, again.url) == ("runs/base@best", folder)
    pinned = DistillConfig(teacher=folder, teacher_sha256=record.sha256, teacher_model=MODEL)
    assert find_teacher(pinned, before)[0].sha256 == record.sha256

    other = Decoder(MODEL)
    initialise(other, seed=2)
    export_hf(dict(other.named_parameters()), MODEL, tmp_path / "other")
    with pytest.raises(UserError, match=r"(?s)that of .*hf, which has taught this run until now"):
        find_teacher(DistillConfig(teacher=str(tmp_path / "other")), before)
    with pytest.raises(UserError, match=r"(?s)that of distill\.teacher_sha256"):
        find_teacher(DistillConfig(teacher=folder, teacher_sha256="0" * 64), None)
    with pytest.raises(UserError, match=r"another model than distill\.teacher_model"):
        find_teacher(DistillConfig(teacher=folder, teacher_model=GPT2Config()), None)


def test_a_live_teacher_says_what_its_model_says(folder: str) -> None:
    config = config_of(f"distill.teacher={folder}", "distill.hidden.layers=[[1, 2]]")
    assert config.distill is not None
    _, found = find_teacher(config.distill, None)
    teacher = LiveTeacher(config, found, mesh=None, device=torch.device("cpu"), document_end_id=None)
    model = Decoder(MODEL)
    initialise(model, seed=1)
    tokens_BT = torch.arange(10).reshape(2, 5)
    lesson = teacher.lesson(tokens_BT, None)
    with torch.no_grad():
        hidden_BTE, (last_BTE,) = model.hidden_states(tokens_BT, layers=(2,))
        logits_NV = lesson.targets.hidden @ lesson.targets.weight.t()  # type: ignore[attr-defined]  # a WholeTargets
        torch.testing.assert_close(logits_NV, model(tokens_BT).flatten(0, 1))
    torch.testing.assert_close(lesson.hidden[0], last_BTE.flatten(0, 1))
    assert (lesson.student_layers, lesson.alpha, lesson.temperature) == ((1,), 0.5, 2.0)
    assert hidden_BTE.shape == (2, 5, 32)


@pytest.mark.parametrize(
    ("overrides", "complaint"),
    [
        (["distill.alpha=1.5"], r"distill\.alpha: .*1\.5"),
        (["distill.alpha=-0.1"], r"distill\.alpha: "),
        (["distill.temperature=0"], r"distill\.temperature: "),
        (["task=pretrain"], r"distill: only read with task distill, found pretrain"),
        (["distill=null"], r"distill: task distill needs a teacher"),
        (["distill.cache=true"], r"distill\.cache: .*set distill\.top_k"),
        (["distill.cache=true", "distill.top_k=4", "distill.hidden.layers=[[1, 1]]"], r"hidden states are not in the"),
        (["distill.top_k=9000"], r"distill\.top_k: 9000 is more than model\.vocab_size 8192"),
        (["distill.hidden.layers=[[3, 1]]"], r"distill\.hidden\.layers\.0: 3 is more than model\.layers 2"),
        # pragma: allowlist nextline secret
        (["distill.teacher=s3://key:secret@bucket/run?a=b"], r"distill\.teacher: the URL holds"),
    ],
)
def test_settings_that_do_not_fit_are_refused(overrides: list[str], complaint: str) -> None:
    with pytest.raises(UserError, match=complaint):
        config_of(*overrides)


def test_the_same_file_evaluates() -> None:
    assert config_of("task=evaluate").live_teacher is None


def test_work_per_token_counts_the_teacher_and_leaves_out_frozen_weights() -> None:
    config = config_of("lora.rank=4", "initial_weights=runs/base")
    plain = flops_per_token(config.model, 256)
    assert trained_flops_per_token(config.model, 256) == plain
    assert trained_flops_per_token(config.model, 256, teacher=MODEL) == plain + flops_per_token(MODEL, 256) // 3
    assert config.lora is not None
    adapters = count_adapter_parameters(config.model, config.lora)
    assert adapters == 2 * 4 * ((64 + 192) + (64 + 64))
    parameters = 8192 * 64 + 2 * (12 * 64 * 64 + 13 * 64) + 2 * 64
    expected = 4 * parameters + 6 * adapters + 12 * 2 * 64 * 256
    assert trained_flops_per_token(config.model, 256, lora=config.lora) == expected
