"""Models for use: weights of a Hugging Face folder, tokenizers from wherever they lie, generation from both."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from fsspec.implementations.memory import MemoryFileSystem

from trainer.data.shards import DatasetInfo, ShardWriter, SplitInfo, TokenizerRecord, write_dataset_json
from trainer.data.tokenizer import tokenizer_fingerprint, train_bpe
from trainer.errors import UserError
from trainer.evaluate.generate import complete
from trainer.evaluate.pretrained import build_pretrained, load_pretrained, load_weights, training_tokenizer
from trainer.evaluate.sampling import Sampling
from trainer.model.config import GPT2Config
from trainer.model.decoder import Decoder
from trainer.model.hf import export_hf
from trainer.model.init import initialise

TOKENIZER = train_bpe([(Decoder.__doc__ or "") * 3], 300)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A Hugging Face folder of a random model with 300 ids, without a tokenizer."""
    config = GPT2Config(vocab_size=300, context=16, layers=1, width=16, heads=2)
    model = Decoder(config)
    initialise(model, 1)
    export_hf({name: value.detach() for name, value in model.named_parameters()}, config, tmp_path / "model")
    return tmp_path / "model"


@pytest.fixture
def remote_tokenizer() -> str:
    MemoryFileSystem().pipe_file("/pretrained/tokenizer.json", TOKENIZER.to_str().encode())
    return "memory://pretrained/tokenizer.json"


def test_a_tokenizer_may_lie_in_a_store(folder: Path, remote_tokenizer: str) -> None:
    weights = load_weights(str(folder), tokenizer_file=remote_tokenizer)
    assert weights.tokenizer_file is not None
    assert weights.tokenizer_file.read_text() == TOKENIZER.to_str()
    # The end-of-text token is id 0, which is an id like any other.
    assert weights.eos_id == 0


def test_a_missing_tokenizer_is_named(folder: Path) -> None:
    for missing in (str(folder / "none.json"), "memory://pretrained/none.json", str(folder)):
        with pytest.raises(UserError, match=f"--tokenizer {missing}: no such file"):
            load_weights(str(folder), tokenizer_file=missing)


def test_text_and_prompt_together_are_no_longer_than_the_context(folder: Path, remote_tokenizer: str) -> None:
    pretrained = load_pretrained(str(folder), tokenizer_file=remote_tokenizer)
    assert next(iter(pretrained.model.parameters())).dtype == torch.float32
    (whole,) = complete(pretrained, ["model"], Sampling(temperature=0))
    assert whole.prompt_tokens + whole.completion_tokens == 16
    assert whole.finish_reason == "length"
    room = whole.completion_tokens
    with pytest.raises(UserError, match=rf"(?s)max_tokens {room + 1}.*at most the context of .*16.*to {room} or less"):
        complete(pretrained, ["model"], Sampling(max_tokens=room + 1))
    with pytest.raises(UserError, match=r"(?s)a prompt of \d\d+ tokens.*shorten the prompt to at most 15 tokens"):
        complete(pretrained, ["A GPT-style language model. " * 10], Sampling())


@pytest.mark.skipif(torch.cuda.is_available(), reason="a layout for CPUs")
def test_matrices_laid_out_for_single_rows_give_the_same_logits(folder: Path) -> None:
    tokens_BT = torch.arange(12).view(2, 6)
    plain, laid_out = build_pretrained(load_weights(str(folder))).model, load_pretrained(str(folder)).model
    assert laid_out.blocks[0].attention.qkv.weight.stride(0) == 1
    assert laid_out.head_weight.stride(0) == 1
    with torch.no_grad():
        torch.testing.assert_close(laid_out(tokens_BT), plain(tokens_BT))


def test_a_model_without_a_tokenizer_asks_for_one(folder: Path) -> None:
    with pytest.raises(UserError, match="no tokenizer is known"):
        complete(load_pretrained(str(folder)), ["text"], Sampling())


def test_a_tokenizer_larger_than_the_model_is_refused(folder: Path, tmp_path: Path) -> None:
    larger = train_bpe([(Decoder.__doc__ or "") * 3], 400)
    larger.save(str(tmp_path / "larger.json"))
    pretrained = load_pretrained(str(folder), tokenizer_file=str(tmp_path / "larger.json"))
    with pytest.raises(UserError, match=r"the id \d+ in the prompt, where the vocabulary of .*model has 300 ids"):
        complete(pretrained, [Decoder.__doc__ or ""], Sampling())


@pytest.fixture
def run(tmp_path: Path) -> dict[str, object]:
    """The config of a run whose second data set is gone."""
    with ShardWriter(tmp_path / "set", "train", dtype="uint16", shard_tokens=1000) as writer:
        writer.add(range(100), text_bytes=300)
        split = SplitInfo.of(writer.close())
    record = TokenizerRecord(name="n", fingerprint=tokenizer_fingerprint(TOKENIZER), vocab_size=300, eos_id=0)
    write_dataset_json(
        tmp_path / "set",
        DatasetInfo(name="s", tokenizer=record, dtype="uint16", splits={"train": split}, created_at="now"),
    )
    return {"data": {"train": [str(tmp_path / "set"), str(tmp_path / "gone")]}, "sequence_length": 9}


def test_the_training_tokenizer_is_that_of_the_first_set(run: dict[str, object], tmp_path: Path) -> None:
    assert training_tokenizer(run) == (None, 0)
    TOKENIZER.save(str(tmp_path / "set" / "tokenizer.json"))
    assert training_tokenizer(run) == (tmp_path / "set" / "tokenizer.json", 0)


def test_data_that_is_elsewhere_has_no_tokenizer_here(tmp_path: Path) -> None:
    assert training_tokenizer({"data": {"train": str(tmp_path / "gone")}, "sequence_length": 9}) == (None, None)
