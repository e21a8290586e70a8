"""The workflows are sound: linted, pinned, with few rights, and made of targets that the Makefile has."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from tests.integration.servers import go_tool

ROOT = Path(__file__).parents[3]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
PINNED = re.compile(r"^\s*-?\s*uses: [\w.-]+/[\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+$")
each_workflow = pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.name)


def loaded(workflow: Path) -> dict[str, Any]:
    return YAML(typ="safe").load(workflow.read_text(encoding="utf-8"))


def scripts(workflow: Path) -> str:
    """Everything that its steps run in a shell."""
    steps = [step for job in loaded(workflow)["jobs"].values() for step in job.get("steps", [])]
    return "\n".join(step["run"] for step in steps if "run" in step)


def test_actionlint_finds_nothing() -> None:
    actionlint = go_tool("actionlint")
    # With shellcheck of this environment, where there is one, it reads the steps' scripts too.
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    command = [str(actionlint), *map(str, WORKFLOWS)]
    linted = subprocess.run(
        command, cwd=ROOT, env=os.environ | {"PATH": path}, capture_output=True, text=True, check=False
    )
    assert linted.returncode == 0, linted.stdout + linted.stderr


@each_workflow
def test_actions_of_others_are_pinned_by_commit_and_name_their_version(workflow: Path) -> None:
    used = [line for line in workflow.read_text(encoding="utf-8").splitlines() if re.match(r"\s*-?\s*uses:", line)]
    assert used
    assert [line for line in used if "uses: ./" not in line and not PINNED.match(line)] == []


def test_one_action_has_one_pin() -> None:
    pins: dict[str, set[str]] = {}
    for workflow in WORKFLOWS:
        for action, pin in re.findall(r"uses: ([\w./-]+)@(.+)", workflow.read_text(encoding="utf-8")):
            pins.setdefault(action, set()).add(pin)
    assert {action: found for action, found in pins.items() if len(found) > 1} == {}


@each_workflow
def test_rights_are_few_and_old_runs_give_way(workflow: Path) -> None:
    content = loaded(workflow)
    assert content["permissions"] in ({}, {"contents": "read"})
    assert content["concurrency"]["group"].endswith("${{ github.ref }}")
    for job in content["jobs"].values():
        assert "write-all" not in str(job.get("permissions", {}))
        assert "timeout-minutes" in job or "uses" in job


def test_groups_differ_so_that_a_called_workflow_does_not_wait_for_its_caller() -> None:
    groups = [loaded(workflow)["concurrency"]["group"] for workflow in WORKFLOWS]
    assert len(set(groups)) == len(groups)


@each_workflow
def test_no_step_pastes_an_expression_into_its_script(workflow: Path) -> None:
    """Values reach a script by its environment: a branch or tag cannot be a command."""
    assert "${{" not in scripts(workflow)


def test_the_makefile_has_every_target_that_a_workflow_makes() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    made = {name for workflow in WORKFLOWS for name in re.findall(r"\bmake ([a-z-]+)", scripts(workflow))}
    assert {"check", "test", "test-cluster", "images", "charts", "charts-push"} <= made
    assert made <= set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))
