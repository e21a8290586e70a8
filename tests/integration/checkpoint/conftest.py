"""Stores for the suite: a disk, and folders on S3, GCS and Azure servers."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.integration.servers import Server
from trainer.checkpoint.store import Store, open_run

_numbers = itertools.count()


@pytest.fixture(params=["disk", "s3", "gcs", "azure"])
def store_url(
    request: pytest.FixtureRequest,
    start_server: Callable[[str], Server],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> str:
    """URL of an empty folder of each kind of store."""
    return url_of(request.param, start_server, tmp_path, monkeypatch)


@pytest.fixture
def run(store_url: str) -> Store:
    """An empty run on each kind of store."""
    return open_run(store_url, "tiny")


@pytest.fixture
def disk_run(tmp_path: Path) -> Store:
    """An empty run on this machine's disk."""
    return open_run(str(tmp_path / "runs"), "tiny")


@pytest.fixture
def s3_run(start_server: Callable[[str], Server], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """An empty run on S3."""
    return open_run(url_of("s3", start_server, tmp_path, monkeypatch), "tiny")


def url_of(kind: str, start: Callable[[str], Server], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """An empty folder on a kind of store, with the environment set for its clients."""
    if kind == "disk":
        return str(tmp_path / "runs")
    server = start(kind)
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    return f"{server.url}/{next(_numbers)}/runs"
