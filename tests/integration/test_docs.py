"""The commands of README.md and docs/ work as they are written, on a short run."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import typer
from ruamel.yaml import YAML

from trainer.cli.main import app
from trainer.config_file import load_run_config
from trainer.data.prepare import load_pipeline

ROOT = Path(__file__).parents[2]
TINY = ROOT / "trainer" / "presets" / "tiny-gpt2.yaml"
SWEEPS = ROOT / "docs" / "sweeps.md"
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))
# `make test` would run this test again.
NOT_RUN = {"make test"}
# What a page says for people and what is enough here.
SHORTER = {"steps=400": "steps=6"}
SHORT = "steps=4,checkpoint.every_steps=2,evaluate.sequences=4,log.every_steps=1"


def shell_commands(pages: Sequence[Path]) -> Iterator[str]:
    """Lines of the ```sh blocks of pages, in order; `make run` as the commands that make would run."""
    for page in pages:
        for block in re.findall(r"(?s)```sh\n(.*?)```", page.read_text(encoding="utf-8")):
            for line in block.splitlines():
                command = line.split("#")[0].strip()
                if command == "make run":
                    yield from make_commands("run")
                elif command not in NOT_RUN:
                    for long, short in SHORTER.items():
                        command = command.replace(long, short)
                    yield command


def make_commands(target: str) -> list[str]:
    """What `make TARGET` would run once the environment is installed."""
    printed = subprocess.run(
        ["make", "--no-print-directory", "-n", target],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "MAKEFLAGS": ""},
    )
    return [line for line in printed.stdout.splitlines() if "gpt-run" in line and "pip install" not in line]


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_documented_commands(tmp_path: Path) -> None:
    # Those of docs/runs are run by test_runs.py, at their own length.
    pages = [page for page in PAGES if page != SWEEPS and not page.is_relative_to(ROOT / "docs" / "runs")]
    commands = list(shell_commands(pages))
    assert len(commands) >= 8
    run_all(commands, tmp_path)


@pytest.mark.slow
@pytest.mark.timeout(280)
def test_documented_sweeps(tmp_path: Path) -> None:
    run_all(["gpt-run data prepare python-library", *shell_commands([SWEEPS])], tmp_path)


def run_all(commands: Sequence[str], folder: Path) -> None:
    """Each ends well, in this order, in a folder of its own."""
    environment = {**os.environ, "GPTRUN_SET": SHORT, "OMP_NUM_THREADS": "1"}
    for command in commands:
        words = shlex.split(command.replace(".venv/bin/", ""))
        assert words[0] == "gpt-run", command
        result = subprocess.run(
            [sys.executable, "-m", "trainer", *words[1:]],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert result.returncode == 0, f"{command}\n{result.stdout}\n{result.stderr}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_code_blocks_are_of_a_kind_that_is_tested(page: Path) -> None:
    opened = re.findall(r"(?m)^```(.*)$", page.read_text(encoding="utf-8"))[::2]
    # tests/rules reads the queries.
    kinds = {"sh", "yaml", "text", "mermaid", "promql"}
    if page.stem == "extending":
        kinds |= {"python"}  # tests/unit/docs/test_extending.py runs it
    assert set(opened) <= kinds, f"{page.name}: a shell block that is not `sh` is never run"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_documented_run_files_load(page: Path, tmp_path: Path) -> None:
    for number, block in enumerate(re.findall(r"(?s)```yaml\n(.*?)```", page.read_text(encoding="utf-8"))):
        file = tmp_path / f"{number}.yaml"
        # Keys without a name are laid over a preset's.
        file.write_text(
            block if "name:" in block else json.dumps(YAML(typ="safe").load(TINY) | YAML(typ="safe").load(block))
        )
        (load_pipeline if "\nsources:" in block else load_run_config)(str(file))


def test_the_readme_lists_every_command() -> None:
    table = (ROOT / "README.md").read_text(encoding="utf-8").split("## Commands")[1].split("Exit codes")[0]
    root: Any = typer.main.get_command(app)
    for name, command in root.commands.items():
        row = next((line for line in table.splitlines() if f"`gpt-run {name} " in line), "")
        assert row, f"gpt-run {name}"
        assert [child for child in getattr(command, "commands", ()) if child not in row] == [], row


def test_every_decision_page_is_a_decision() -> None:
    for page in (ROOT / "docs" / "decisions").glob("*.md"):
        text = page.read_text(encoding="utf-8")
        assert text.startswith("# "), page
        assert re.search(r"(?i)refused|chosen|looked at|options", text), f"{page.name} names no alternative"
