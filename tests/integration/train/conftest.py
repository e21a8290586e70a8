"""One small prepared set and one warm process per session; a fresh folder with a run file per test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.training import Training
from tests.integration.warm import Warm

MakeTraining = Callable[..., Training]


@pytest.fixture(scope="session")
def warm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Warm]:
    """The warm process."""
    process = Warm(tmp_path_factory.mktemp("warm") / "log.txt")
    yield process
    process.close()


@pytest.fixture
def make_training(tmp_path: Path, dataset: Path) -> Iterator[MakeTraining]:
    """Make a folder with a run file; keyword arguments change the file."""
    made: list[Training] = []

    def make(**changes: Any) -> Training:
        made.append(Training(tmp_path / str(len(made)), dataset, changes))
        return made[-1]

    yield make
    for training in made:
        training.end()


@pytest.fixture
def training(make_training: MakeTraining) -> Training:
    """A folder with the run file as it is."""
    return make_training()
