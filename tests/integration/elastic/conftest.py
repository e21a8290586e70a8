"""Machines of one run, as processes; a prepared set for all tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.nodes import Nodes
from tests.integration.training import Training

MakeNodes = Callable[..., Nodes]


@pytest.fixture
def training(tmp_path: Path, dataset: Path) -> Iterator[Training]:
    """A folder with a run file, and no coordinator."""
    made = Training(tmp_path / "alone", dataset)
    yield made
    made.end()


@pytest.fixture
def make_nodes(tmp_path: Path, dataset: Path) -> Iterator[MakeNodes]:
    """Make a coordinator; keyword arguments change the run file."""
    made: list[Nodes] = []

    def make(nodes: str = "1:3", *, host: str = "127.0.0.1", **changes: Any) -> Nodes:
        made.append(Nodes(Training(tmp_path / str(len(made)), dataset, changes), nodes=nodes, host=host))
        return made[-1]

    yield make
    for one in made:
        one.end()
