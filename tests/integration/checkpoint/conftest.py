"""Stores for the suite: a disk, and S3, GCS and Azure servers started once per session, when first asked for."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.integration.servers import Server, azure_server, gcs_server, s3_server
from trainer.checkpoint.store import Store, open_run

STARTERS = {"s3": s3_server, "gcs": gcs_server, "azure": azure_server}
_numbers = itertools.count()


@pytest.fixture(scope="session")
def start_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Server]]:
    """A function that gives the running server of a kind."""
    servers: dict[str, Server] = {}
    with contextlib.ExitStack() as stack:

        def start(kind: str) -> Server:
            if kind not in servers:
                servers[kind] = stack.enter_context(STARTERS[kind](tmp_path_factory.mktemp(kind)))
            return servers[kind]

        yield start


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
