"""`gpt-run tokenizer`: what the commands print, their JSON and exit codes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tokenizers import Tokenizer, normalizers
from typer.testing import CliRunner

from trainer.cli.tokenizer import app
from trainer.data.tokenizers.config import Style


@pytest.fixture
def pipeline(tmp_path: Path) -> Path:
    (tmp_path / "t.txt").write_text("A short text, a text that is short.\n" * 50)
    path = tmp_path / "p.yaml"
    path.write_text(
        f"name: short\noutput: {tmp_path}/out\nsources: [{{type: text, path: {tmp_path}/t.txt}}]\n"
        "tokenizer: {type: bpe, vocab_size: 270}\n"
    )
    return path


def test_train_then_verify_then_import(pipeline: Path, tmp_path: Path) -> None:
    runner = CliRunner()
    # As the chart's job calls it.
    made = runner.invoke(app, ["train", str(pipeline), "--output", f"{tmp_path}/t", "--json"])
    assert made.exit_code == 0, made.output
    result = json.loads(made.stdout)
    assert (result["skipped"], result["vocab_size"], result["eos_id"]) == (False, 270, 0)
    again = runner.invoke(app, ["train", str(pipeline), "--output", f"{tmp_path}/t"])
    assert again.stdout == f"{tmp_path}/t is up to date: 270 ids, fingerprint {result['fingerprint'][:12]}\n"
    sound = runner.invoke(
        app, ["verify", f"{tmp_path}/t", "--vocab-size", "270", "--text", f"{tmp_path}/t.txt", "--json"]
    )
    assert sound.exit_code == 0, sound.output
    report = json.loads(sound.stdout)
    assert (report["problems"], report["documents"], report["fingerprint"]) == ([], 1, result["fingerprint"])
    copied = runner.invoke(app, ["import", f"{tmp_path}/t", "--output", f"{tmp_path}/copy", "--json"])
    assert json.loads(copied.stdout)["fingerprint"] == result["fingerprint"]
    styled = ["train", str(pipeline), "--output", f"{tmp_path}/llama", "--style", "llama", "--vocab-size", "275"]
    assert "is ready: 275 ids" in runner.invoke(app, styled).stdout


def test_a_faulty_tokenizer_exits_with_2_and_words(tmp_path: Path, trained: dict[Style, Tokenizer]) -> None:
    tokenizer = Tokenizer.from_str(trained["gpt2"].to_str())
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    result = CliRunner().invoke(app, ["verify", str(tmp_path), "--vocab-size", "1201", "--text", __file__])
    assert result.exit_code == 2
    assert "PROBLEM: text does not come back as it was" in result.stdout
    assert "PROBLEM: the vocabulary has 1200 ids, 1201 were expected" in result.stdout


def test_a_rank_file_with_special_tokens_of_its_own(rank_files: Path, tmp_path: Path) -> None:
    command = ["import", str(rank_files / "multilingual.tiktoken"), "--output", f"{tmp_path}/t", "--json"]
    options = ["--pattern", "gpt2", "--special", "<|endoftext|>=50257", "--special", "<|mask|>=50300"]
    made = CliRunner().invoke(app, command + options)
    assert made.exit_code == 0, made.output
    result = json.loads(made.stdout)
    assert (result["vocab_size"], result["eos_id"]) == (50301, 50257)
    text = ["--text", __file__]
    sound = CliRunner().invoke(app, ["verify", f"{tmp_path}/t", "--vocab-size", "50301", "--json", *text])
    assert json.loads(sound.stdout)["problems"] == []


@pytest.mark.parametrize("command", ["train", "verify", "import"])
def test_help_has_an_example(command: str) -> None:
    assert f"Example: gpt-run tokenizer {command}" in CliRunner().invoke(app, [command, "--help"]).stdout
