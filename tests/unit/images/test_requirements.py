"""images/requirements.py: the list that the layer with the dependencies is keyed by."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from images.requirements import requirements

PROJECT = {
    "name": "some-project",
    "dependencies": ["torch>=2", "numpy"],
    "optional-dependencies": {"s3": ["s3fs"], "operator": ["kopf", "numpy"], "all": ["some-project[s3]"]},
}


def test_takes_groups_in_order_and_each_requirement_once() -> None:
    assert requirements(PROJECT, ["dependencies", "s3", "operator"]) == ["torch>=2", "numpy", "s3fs", "kopf"]


def test_extras_come_without_the_projects_own_dependencies() -> None:
    assert requirements(PROJECT, ["operator"]) == ["kopf", "numpy"]


def test_an_unknown_extra_is_named_with_those_there_are() -> None:
    with pytest.raises(SystemExit, match="no extra 's4'; it has all, dependencies, operator, s3"):
        requirements(PROJECT, ["s4"])


def test_an_extra_that_names_the_project_is_refused() -> None:
    with pytest.raises(SystemExit, match="refers to the project itself"):
        requirements(PROJECT, ["all"])


@pytest.mark.parametrize(
    ("groups", "some"),
    [
        (["dependencies", "s3", "gcs", "azure", "ray"], {"torch", "s3fs", "gcsfs", "adlfs", "ray[default,train]"}),
        (["operator"], {"aiohttp", "kopf", "prometheus-client"}),
    ],
)
def test_prints_what_the_containerfiles_ask_for(groups: list[str], some: set[str]) -> None:
    root = Path(__file__).parents[3]
    command = [sys.executable, "images/requirements.py", *groups]
    printed = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True).stdout
    assert some <= {line.partition(">=")[0] for line in printed.splitlines()}
