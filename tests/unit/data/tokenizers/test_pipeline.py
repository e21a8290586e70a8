"""Training from a pipeline and import: complete folders are left alone, kills leave nothing half-made, inputs count."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer

from trainer.data.prepare.engine import Processes
from trainer.data.prepare.pipeline import Pipeline
from trainer.data.shards import file_sha256
from trainer.data.tokenizer import load_tokenizer, tokenizer_fingerprint
from trainer.data.tokenizers import pipeline as module
from trainer.data.tokenizers.config import FileTokenizer, Style
from trainer.data.tokenizers.pipeline import Made, import_tokenizer
from trainer.errors import UserError

FILES = {"tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "tokenizer_info.json"}

# Trains in one child after another; the n-th is killed by the kernel at the n-th file that it writes.
TRAIN_AND_DIE = """
import os, signal, sys
from pathlib import Path
from trainer.data.prepare.engine import Processes
from trainer.data.prepare.pipeline import Pipeline
from trainer.data.tokenizers import folder
from trainer.data.tokenizers.pipeline import train
write, left = folder.write_atomically, 0
def counted(path, content):
    global left
    if left == 0:
        (path.parent / f".{path.name}.half").write_bytes(content[:100])
        os.kill(os.getpid(), signal.SIGKILL)
    left -= 1
    write(path, content)
folder.write_atomically = counted
for number in range(int(sys.argv[3])):
    child = os.fork()
    if child == 0:
        left = number
        train(Pipeline.model_validate_json(sys.argv[1]), Path(sys.argv[2], str(number)), engine=Processes(1))
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL, number
"""


def train(pipeline: Pipeline, folder: Path, *, workers: int = 1, **options: Any) -> Made:
    """Without the start of worker processes, which takes a second."""
    return module.train(pipeline, folder, engine=Processes(workers), **options)


def pipeline_of(folder: Path, **changes: Any) -> Pipeline:
    """A pipeline over the text files in `folder`."""
    raw = {
        "name": "short",
        "output": "unused",
        "sources": [{"type": "text", "path": str(folder), "part_bytes": 3000}],
        "tokenizer": {"type": "bpe", "vocab_size": 300},
    }
    return Pipeline.model_validate({**raw, **changes})


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    folder = tmp_path / "texts"
    folder.mkdir()
    for number in range(20):
        (folder / f"{number}.txt").write_text(f"text number {number} of a few short texts, with words\n" * 30)
    return folder


def hashes(folder: Path) -> dict[str, str]:
    return {name: file_sha256(folder / name) for name in sorted(FILES)}


def test_training_writes_a_folder_and_leaves_it_alone_when_asked_again(texts: Path, tmp_path: Path) -> None:
    made = train(pipeline_of(texts), tmp_path / "out")
    assert {path.name for path in made.folder.iterdir() if not path.name.startswith(".")} == FILES
    tokenizer = load_tokenizer(made.folder / "tokenizer.json")
    assert (made.skipped, made.info.vocab_size, made.info.eos_id) == (False, 300, 0)
    assert made.info.fingerprint == tokenizer_fingerprint(tokenizer)
    config = json.loads((made.folder / "tokenizer_config.json").read_text())
    assert (config["tokenizer_class"], config["eos_token"]) == ("PreTrainedTokenizerFast", "<|endoftext|>")
    times = {name: (made.folder / name).stat().st_mtime_ns for name in FILES}
    # What comes after the tokenizer does not change it.
    again = train(pipeline_of(texts, name="other", validation_fraction=0.5, shard_tokens=10), made.folder)
    assert again.skipped
    assert times == {name: (made.folder / name).stat().st_mtime_ns for name in FILES}


def test_the_number_of_processes_and_the_order_of_parts_do_not_matter(texts: Path, tmp_path: Path) -> None:
    pipeline = pipeline_of(texts, tokenizer={"type": "bpe", "vocab_size": 290, "sample_bytes": 9000})
    train(pipeline, tmp_path / "one")
    train(pipeline, tmp_path / "three", workers=3)
    assert hashes(tmp_path / "one") == hashes(tmp_path / "three")


def test_text_is_cleaned_first(texts: Path, tmp_path: Path) -> None:
    plain = train(pipeline_of(texts), tmp_path / "plain").info
    (texts / "braces.txt").write_text("{ zzzz } " * 500)
    step = {"type": "c4", "terminal_punctuation": False, "min_sentences": None}
    cleaned = train(pipeline_of(texts, clean=[step]), tmp_path / "cleaned").info
    assert cleaned.inputs_sha256 != plain.inputs_sha256
    assert load_tokenizer(tmp_path / "cleaned" / "tokenizer.json").token_to_id("zz") is None


def test_two_trainings_give_equal_bytes(texts: Path, tmp_path: Path) -> None:
    for style in ("gpt2", "llama"):
        for folder in ("a", "b"):
            train(pipeline_of(texts), tmp_path / style / folder, style=style, vocab_size=295)
        assert hashes(tmp_path / style / "a") == hashes(tmp_path / style / "b")
    assert hashes(tmp_path / "gpt2" / "a") != hashes(tmp_path / "llama" / "a")


def test_a_kill_at_any_file_is_made_good_by_the_next_run(texts: Path, tmp_path: Path) -> None:
    pipeline = pipeline_of(texts)
    command = [sys.executable, "-c", TRAIN_AND_DIE, pipeline.model_dump_json(), str(tmp_path), "5"]
    subprocess.run(command, check=True)
    train(pipeline, tmp_path / "clean")
    for number in range(5):
        folder = tmp_path / str(number)
        assert not train(pipeline, folder).skipped
        assert train(pipeline, folder).skipped
        assert hashes(folder) == hashes(tmp_path / "clean")
        assert {path.name for path in folder.iterdir()} - FILES <= {".prepare.lock"}


def test_damage_is_repaired(texts: Path, tmp_path: Path) -> None:
    made = train(pipeline_of(texts), tmp_path / "out")
    before = hashes(made.folder)
    (made.folder / "tokenizer.json").write_text("{}")
    (made.folder / "tokenizer_config.json").unlink()
    assert not train(pipeline_of(texts), made.folder).skipped
    assert hashes(made.folder) == before


def test_other_inputs_need_to_be_told_to_replace(texts: Path, tmp_path: Path) -> None:
    made = train(pipeline_of(texts), tmp_path / "out")
    (texts / "0.txt").write_text("a text that was changed\n" * 30)
    for changes in ({}, {"seed": 1}, {"tokenizer": {"type": "bpe", "vocab_size": 301}}):
        with pytest.raises(UserError, match="holds a tokenizer from other inputs"):
            train(pipeline_of(texts, **changes), made.folder)
    assert not train(pipeline_of(texts), made.folder, replace=True).skipped
    assert train(pipeline_of(texts), made.folder).skipped


def test_what_somebody_else_wrote_is_not_touched(texts: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "tokenizer.json").write_text("mine")
    with pytest.raises(UserError, match=r"files that this command did not write: tokenizer\.json"):
        train(pipeline_of(texts), tmp_path / "out", replace=True)
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="is a file"):
        train(pipeline_of(texts), tmp_path / "file")


def test_what_cannot_be_trained_is_told(texts: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"bytes of text give 3\d\d tokens, not 5000") as caught:
        train(pipeline_of(texts), tmp_path / "out", vocab_size=5000)
    assert "vocab_size" in caught.value.fix
    for path in texts.iterdir():
        path.write_bytes(b"\xff\xfe")
    with pytest.raises(UserError, match="pipeline short gives no text; documents left out: 20 by utf-8"):
        train(pipeline_of(texts), tmp_path / "out")
    (texts / "0.txt").write_text("lorem ipsum\n")
    with pytest.raises(UserError, match=r"left out: 19 by utf-8, 1 by c4\.lorem-ipsum"):
        train(
            pipeline_of(texts, clean=[{"type": "c4", "min_words_per_line": None, "terminal_punctuation": False}]),
            tmp_path / "out",
        )
    # Nothing was promised to be there.
    assert [path.name for path in (tmp_path / "out").iterdir()] == [".prepare.lock"]


def test_a_pipeline_that_has_a_tokenizer_trains_only_when_asked(texts: Path, tmp_path: Path) -> None:
    pipeline = pipeline_of(texts, tokenizer={"type": "file", "path": "/somewhere/tokenizer.json"})
    with pytest.raises(UserError, match="there is nothing to train"):
        train(pipeline, tmp_path / "out")
    assert train(pipeline, tmp_path / "out", style="llama", vocab_size=295).info.eos_id == 2
    with pytest.raises(UserError, match="needs at least 260"):
        train(pipeline, tmp_path / "other", style="llama", vocab_size=259)


def test_enough_parts_are_read_and_no_more(texts: Path) -> None:
    everything = module._picked_parts(pipeline_of(texts), 10**9)
    few = module._picked_parts(pipeline_of(texts), 8000)
    sizes = [part.num_bytes for _, part in few]
    assert sum(sizes[:-1]) < 8000 <= sum(sizes)
    assert few == everything[: len(few)]
    assert 1 < len(few) < len(everything)
    assert module._picked_parts(pipeline_of(texts, seed=1), 8000) != few


def test_import_writes_the_same_tokenizer(tmp_path: Path, trained: dict[Style, Tokenizer]) -> None:
    trained["llama"].save(str(tmp_path / "foreign.json"))
    settings = FileTokenizer(type="file", path=str(tmp_path / "foreign.json"))
    made = import_tokenizer(settings, tmp_path / "out")
    assert made.info.fingerprint == tokenizer_fingerprint(trained["llama"])
    assert made.info.made_from == {"type": "file", "path": str(tmp_path / "foreign.json")}
    assert import_tokenizer(settings, tmp_path / "out").skipped
    copy = import_tokenizer(FileTokenizer(type="file", path=str(tmp_path / "out")), tmp_path / "copy")
    assert copy.info.files == made.info.files
    trained["gpt2"].save(str(tmp_path / "foreign.json"))
    with pytest.raises(UserError, match="from other inputs"):
        import_tokenizer(settings, tmp_path / "out")
