"""The command line: help with examples, exit codes, JSON."""

from __future__ import annotations

import json
import re
import shlex
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import typer
from typer.testing import CliRunner

from trainer.cli.main import app
from trainer.data.tokenizer import train_bpe
from trainer.errors import UserError
from trainer.model.config import GPT2Config
from trainer.model.decoder import Decoder
from trainer.model.hf import export_hf


def commands(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Paths of all commands that are not groups themselves."""
    if not hasattr(command, "commands"):
        yield path
        return
    for name, child in command.commands.items():
        yield from commands(child, (*path, name))


ROOT = typer.main.get_command(app)


@pytest.mark.parametrize("path", sorted(commands(ROOT)), ids=" ".join)
def test_every_command_has_an_example_that_parses(path: tuple[str, ...]) -> None:
    result = CliRunner().invoke(app, [*path, "--help"])
    assert result.exit_code == 0
    found = re.search(r"Example: (.*?)(\n\n|\Z)", result.output, re.DOTALL)
    assert found is not None
    words = shlex.split(found[1], comments=True)
    # `gpt-run COMMAND ...`, or how torchrun starts a worker; a shell's redirection is not for the program.
    start = words.index("trainer") if "trainer" in words else words.index("gpt-run")
    words = words[start + 1 : words.index(">") if ">" in words else None]
    assert tuple(words[: len(path)]) == path
    command: Any = ROOT
    for name in path:
        command = command.commands[name]
    command.make_context(path[-1], words[len(path) :])


def test_help_does_not_import_torch() -> None:
    code = "import sys; from trainer.cli.main import app; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_config_show_is_a_run_file(tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text(CliRunner().invoke(app, ["config", "show", "tiny-neox"]).output)
    result = CliRunner().invoke(app, ["config", "diff", "tiny-neox", str(file)])
    assert (result.exit_code, result.output) == (0, "")


def test_config_diff_names_what_differs() -> None:
    result = CliRunner().invoke(app, ["config", "diff", "neox-1.4b", "neox-1.4b-test", "--json"])
    assert result.exit_code == 1
    assert json.loads(result.output)["steps"] == [25000, 1000]


def test_config_schema_is_json() -> None:
    assert "properties" in json.loads(CliRunner().invoke(app, ["config", "schema"]).output)


def test_wrong_input_is_explained_and_exits_2() -> None:
    result = subprocess.run(
        [sys.executable, "-m", "trainer", "config", "show", "tiny-gpt2", "--set", "optimizer.lrr=1"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 2
    assert "did you mean `lr`?" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("output", ["file", "file/below"])
def test_an_output_that_cannot_be_a_folder(tmp_path: Path, small_model: Path, output: str) -> None:
    (tmp_path / "file").write_text("")
    data = tmp_path / "pipeline.yaml"
    data.write_text(
        f"name: x\noutput: {tmp_path / output}\nsources: [{{type: text, path: {data}}}]\n"
        f"tokenizer: {{type: file, path: {small_model / 'tokenizer.json'}}}\n"
    )
    result = subprocess.run(
        [sys.executable, "-m", "trainer", "data", "prepare", str(data)], capture_output=True, text=True, check=False
    )
    assert result.returncode == 2, result.stderr
    assert f"{tmp_path / 'file'}" in result.stderr
    assert "to do:" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.fixture(scope="module")
def small_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Hugging Face folder with a tokenizer."""
    folder = tmp_path_factory.mktemp("models")
    train_bpe(["a few words"], vocab_size=300).save(str(folder / "tokenizer.json"))
    config = GPT2Config(vocab_size=300, context=16, layers=1, width=8, heads=2)
    state = {name: torch.zeros_like(parameter) for name, parameter in Decoder(config).named_parameters()}
    export_hf(state, config, folder / "small", tokenizer_file=folder / "tokenizer.json", eos_id=0)
    return folder / "small"


def test_generate_prints_what_its_help_promises(small_model: Path) -> None:
    output = CliRunner().invoke(app, ["generate", "--help"]).output
    promised = re.search(r"Print \{(.*?)\}", " ".join(output.split()))
    assert promised is not None
    arguments = ["generate", str(small_model), "--prompt", "a", "--max-tokens", "3", "--json"]
    result = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert list(json.loads(result.stdout)) == promised[1].split(", ")


def test_a_url_is_no_output_of_what_writes_to_disks(small_model: Path) -> None:
    tokenizer = str(small_model / "tokenizer.json")
    for arguments in (
        ["data", "prepare", "python-library", "--output"],
        ["tokenizer", "import", tokenizer, "--output"],
        ["checkpoints", "export", "runs/x", "--output"],
        ["data", "inspect", "data", "--html"],
    ):
        result = CliRunner().invoke(app, [*arguments, "s3://bucket/x"])
        assert isinstance(result.exception, UserError), arguments
        assert result.exception.found.endswith("s3:/bucket/x is a URL")


def test_a_store_that_does_not_answer_is_named_while_it_is_asked_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("trainer.data.remote.RETRY_ATTEMPTS", 2)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]  # taken, and nobody answers there
        result = CliRunner().invoke(app, ["data", "inspect", f"http://127.0.0.1:{port}/x.bin"])
    assert result.exit_code == 1
    assert re.search(rf"ConnectionRefusedError: .*{port}.*; trying again in \d+\.\d s", caplog.text)


def test_more_workers_than_sequences() -> None:
    with pytest.raises(UserError, match=r"--nproc 17 on 1 machines with batch\.sequences 16"):
        CliRunner().invoke(app, ["train", "tiny-gpt2", "--nproc", "17"], catch_exceptions=False)


@pytest.mark.parametrize("package", ["kubernetes", "kubeflow.training"])
def test_clients_of_kubernetes_are_asked_for_by_their_extra(monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    result = CliRunner().invoke(app, ["job", "wait", "demo"])
    assert isinstance(result.exception, UserError)
    assert package in result.exception.found
    assert result.exception.fix == "pip install 'gpt-run[kubernetes]'"
