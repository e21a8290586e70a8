"""The commands of README.md and docs/ work as they are written, on a short run."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# `make test` would run this test again.
NOT_RUN = {"make test"}
SHORT = "steps=4,checkpoint.every_steps=2,evaluate.sequences=4,log.every_steps=1"


def shell_commands() -> Iterator[str]:
    """Lines of the ```sh blocks, README first; `make run` as the commands that make would run."""
    for page in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))):
        for block in re.findall(r"(?s)```sh\n(.*?)```", page.read_text(encoding="utf-8")):
            for line in block.splitlines():
                command = line.split("#")[0].strip()
                if command == "make run":
                    yield from make_commands("run")
                elif command not in NOT_RUN:
                    yield command


def make_commands(target: str) -> list[str]:
    """What `make TARGET` would run once the environment is installed."""
    printed = subprocess.run(
        ["make", "-n", target],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "MAKEFLAGS": ""},
    )
    return [line for line in printed.stdout.splitlines() if "gpt-run" in line and "pip install" not in line]


@pytest.mark.timeout(280)
def test_documented_commands(tmp_path: Path) -> None:
    commands = list(shell_commands())
    assert len(commands) >= 8
    environment = {**os.environ, "GPTRUN_SET": SHORT, "OMP_NUM_THREADS": "1"}
    for command in commands:
        words = shlex.split(command.replace(".venv/bin/", ""))
        assert words[0] == "gpt-run", command
        result = subprocess.run(
            [sys.executable, "-m", "trainer", *words[1:]],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert result.returncode == 0, f"{command}\n{result.stdout}\n{result.stderr}"


def test_every_decision_page_is_a_decision() -> None:
    for page in (ROOT / "docs" / "decisions").glob("*.md"):
        text = page.read_text(encoding="utf-8")
        assert text.startswith("# "), page
        assert re.search(r"(?i)refused|chosen|looked at|options", text), f"{page.name} names no alternative"


def test_links_between_pages_resolve() -> None:
    for page in (ROOT / "README.md", *(ROOT / "docs").rglob("*.md")):
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_names_in_the_readme_exist() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for path in re.findall(r"`(benchmarks/[\w/.]+|docs/[\w/.]+|tests/[\w/.]+)`", readme):
        assert (ROOT / path).exists(), path
