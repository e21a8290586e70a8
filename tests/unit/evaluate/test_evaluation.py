"""One evaluation: which sets are read, what is refused before anything is computed, what is printed."""

from __future__ import annotations

import io
import math
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from tokenizers.normalizers import NFC

from trainer.data.shards import DatasetInfo, ShardWriter, SplitInfo, TokenizerRecord, write_dataset_json
from trainer.data.tokenizer import tokenizer_fingerprint, train_bpe
from trainer.errors import UserError
from trainer.evaluate.display import EvaluationDisplay
from trainer.evaluate.evaluation import DEFAULT_SEQUENCES, evaluate_model
from trainer.evaluate.pretrained import load_pretrained
from trainer.evaluate.result import Request, Result
from trainer.evaluate.sampling import Sampling
from trainer.evaluate.text import lines_of, one_line
from trainer.model.config import GPT2Config
from trainer.model.decoder import Decoder
from trainer.model.hf import export_hf
from trainer.model.init import initialise

TEXT = (Decoder.__doc__ or "") * 3
TOKENIZER = train_bpe([TEXT], 300)
OTHER = train_bpe([TEXT.upper()], 300)


def write_set(folder: Path, tokenizer: object = TOKENIZER, *, vocab_size: int = 300, text_bytes: int = 3000) -> str:
    """A prepared set of 1000 random tokens with its tokenizer beside it."""
    ids = np.random.default_rng(1).integers(0, 299, 1000).tolist()
    with ShardWriter(folder, "validation", dtype="uint16", shard_tokens=10_000) as writer:
        writer.add(ids, text_bytes=text_bytes)
        split = SplitInfo.of(writer.close())
    fingerprint = tokenizer_fingerprint(tokenizer)
    record = TokenizerRecord(name="n", fingerprint=fingerprint, vocab_size=vocab_size, eos_id=0)
    info = DatasetInfo(name="s", tokenizer=record, dtype="uint16", splits={"validation": split}, created_at="now")
    write_dataset_json(folder, info)
    tokenizer.save(str(folder / "tokenizer.json"))  # type: ignore[attr-defined]  # an untyped class
    return str(folder)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A Hugging Face folder of a random model of context 16, with its tokenizer."""
    config = GPT2Config(vocab_size=300, context=16, layers=1, width=16, heads=2)
    decoder = Decoder(config)
    initialise(decoder, 1)
    TOKENIZER.save(str(tmp_path / "model-tokenizer.json"))
    state = {name: value.detach() for name, value in decoder.named_parameters()}
    export_hf(state, config, tmp_path / "model", tokenizer_file=tmp_path / "model-tokenizer.json", eos_id=0)
    return tmp_path / "model"


def evaluate(model: Path, **asked: object) -> Result:
    return evaluate_model(load_pretrained(str(model)), Request(**asked), lambda *_: None)  # type: ignore[arg-type]


def test_every_set_is_a_result_and_the_first_is_the_result(model: Path, tmp_path: Path) -> None:
    first, second = write_set(tmp_path / "a"), write_set(tmp_path / "b", text_bytes=6000)
    found = evaluate(model, data=(first, second), sequences=7, micro_sequences=3)
    assert [each.dataset for each in found.sets] == [first, second]
    assert (found.dataset, found.sequences, found.sequence_length) == (first, 7, 16)
    assert found.validation_loss == found.sets[0].validation_loss == pytest.approx(math.log(300), abs=0.2)
    assert found.sets[0].bits_per_byte == pytest.approx(2 * (found.sets[1].bits_per_byte or 0))
    assert found.step is None
    # Of a model folder all that there is, up to a number: the set has 62 samples.
    assert evaluate(model, data=(first,)).sequences == 62 < DEFAULT_SEQUENCES
    assert evaluate(model, data=(first,), sequence_length=9).sequence_length == 9


def test_raw_tokens_of_no_known_text_have_no_bits_per_byte(model: Path, tmp_path: Path) -> None:
    np.arange(200, dtype=np.uint16).tofile(tmp_path / "val.bin")
    found = evaluate(model, data=(str(tmp_path / "val.bin"),))
    assert found.bits_per_byte is None
    assert found.perplexity == pytest.approx(math.exp(found.validation_loss or 0))


def test_samples_and_words(model: Path, tmp_path: Path) -> None:
    data = write_set(tmp_path / "a")
    found = evaluate(model, data=(data,), prompts=("A", ""), sampling=Sampling(max_tokens=3, temperature=0))
    assert [sample.prompt for sample in found.samples] == ["A", ""]
    lines = list(lines_of(found))
    assert lines[0] == str(model)
    assert "sequences of 16 tokens" in lines[1]
    assert lines[2].startswith("  A")
    assert one_line(found).startswith(f"{model}: loss 5.")


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ({}, "nothing to evaluate"),
        ({"data": ("nowhere",)}, "nowhere does not exist"),
        ({"data": ("SET",), "split": "test"}, "has no split 'test'"),
        ({"data": ("SET",), "sequence_length": 17}, "sequences of 17 tokens"),
        ({"data": ("SET",), "against_training": True}, "does not say what it was trained on"),
        ({"prompts": ("A GPT-style language model.",), "sampling": Sampling(max_tokens=16)}, r"a prompt of \d+ tokens"),
        ({"hellaswag": "none.jsonl"}, "none.jsonl: no such file"),
    ],
)
def test_input_that_is_refused(asked: dict[str, object], found: str, model: Path, tmp_path: Path) -> None:
    data = write_set(tmp_path / "set")
    asked = {key: (data,) if value == ("SET",) else value for key, value in asked.items()}
    with pytest.raises(UserError, match=found):
        evaluate(model, **asked)


def test_a_set_of_another_tokenizer_is_refused(model: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"b \(validation\) was made with the tokenizer n \(.*the model's is another"):
        evaluate(model, data=(write_set(tmp_path / "a"), write_set(tmp_path / "b", OTHER)))
    with pytest.raises(UserError, match=r"its tokenizer has 301 tokens, .* has a vocabulary of 300"):
        evaluate(model, data=(write_set(tmp_path / "c", vocab_size=301),))


def test_a_tokenizer_saved_in_another_form_is_the_same(model: Path, tmp_path: Path) -> None:
    """As Transformers saves what it has loaded, with a decoder or a post-processor of its own."""
    other_form = train_bpe([TEXT], 300)
    other_form.post_processor = None
    other_form.normalizer = NFC()
    assert tokenizer_fingerprint(other_form) != tokenizer_fingerprint(TOKENIZER)
    assert evaluate(model, data=(write_set(tmp_path / "a", other_form),)).sequences == 62


def test_a_folder_without_tokenizer_has_losses_and_no_text(model: Path, tmp_path: Path) -> None:
    (model / "tokenizer.json").unlink()
    assert evaluate(model, data=(write_set(tmp_path / "a"),)).sequences == 62
    with pytest.raises(UserError, match="no tokenizer is known for this model"):
        evaluate(model, prompts=("A",))


def test_without_a_terminal_there_is_a_line_now_and_then() -> None:
    times = iter([0.0, 5.0, 11.0, 11.0, 15.0])
    console = Console(file=io.StringIO(), force_terminal=False)
    with EvaluationDisplay(console, lambda: next(times)) as display:
        display("set", 1, 9)
        display("set", 2, 9)
        display("set", 3, 9)
    assert console.file.getvalue() == "set: 2 of 9\n"  # type: ignore[attr-defined]  # it is a StringIO
