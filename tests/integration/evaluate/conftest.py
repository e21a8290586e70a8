"""One small run with its checkpoints, trained once per session; tests that change it take a copy."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.evaluate.items import write_items
from tests.integration.train.conftest import Warm
from tests.integration.training import Training

RUN = {
    "steps": 30,
    # Longer than the sequences, for HellaSwag.
    "model": {"context": 128},
    "checkpoint": {"every_steps": 10},
    "evaluate": {"every_steps": 10, "sequences": 16},
}


@pytest.fixture(scope="session")
def warm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Warm]:
    """A process that forks itself for each command."""
    process = Warm(tmp_path_factory.mktemp("warm") / "log.txt")
    yield process
    process.close()


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory, dataset: Path, warm: Warm) -> Training:
    """A finished run with three checkpoints, to read alone."""
    training = Training(tmp_path_factory.mktemp("trained"), dataset, RUN)
    ended = warm.worker(training)
    assert ended.code == 0, ended.text
    assert len(training.checkpoints()) == 3
    return training


@pytest.fixture
def own(trained: Training, tmp_path: Path, dataset: Path) -> Training:
    """A copy of it."""
    copy = Training(tmp_path / "own", dataset, RUN)
    shutil.copytree(trained.run, copy.run)
    return copy


@pytest.fixture(scope="session")
def items(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty items of the form of HellaSwag's."""
    return write_items(tmp_path_factory.mktemp("items") / "items.jsonl", 20)
