"""The command line: help with examples, exit codes, JSON."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from trainer.cli.main import app
from trainer.errors import UserError


def commands(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Paths of all commands that are not groups themselves."""
    if not hasattr(command, "commands"):
        yield path
        return
    for name, child in command.commands.items():
        yield from commands(child, (*path, name))


ROOT = typer.main.get_command(app)


@pytest.mark.parametrize("path", sorted(commands(ROOT)), ids=" ".join)
def test_every_command_has_an_example(path: tuple[str, ...]) -> None:
    result = CliRunner().invoke(app, [*path, "--help"])
    assert result.exit_code == 0
    assert "Example: " in result.output


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


def test_more_workers_than_sequences() -> None:
    with pytest.raises(UserError, match=r"--nproc 17 with batch\.sequences 16"):
        CliRunner().invoke(app, ["train", "tiny-gpt2", "--nproc", "17"], catch_exceptions=False)
