"""Protocol servers and a data set, each made once per session when a test first asks for it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import fsspec
import pytest

from tests.integration.servers import Server, azure_server, gcs_server, s3_server
from tests.integration.training import prepare

PROTOCOLS = {"s3": "s3", "gcs": "gs", "azure": "abfs"}
STARTERS = {"s3": s3_server, "gcs": gcs_server, "azure": azure_server}


@pytest.fixture(scope="session")
def start_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Server]]:
    """A function that gives the running server of a kind."""
    servers: dict[str, Server] = {}
    with contextlib.ExitStack() as stack:

        def start(kind: str) -> Server:
            if kind not in servers:
                servers[kind] = stack.enter_context(STARTERS[kind](tmp_path_factory.mktemp(kind)))
            # Clients that other tests made for other servers.
            fsspec.get_filesystem_class(PROTOCOLS[kind]).clear_instance_cache()
            return servers[kind]

        yield start


@pytest.fixture(scope="session")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A prepared set of Python sources with a validation split."""
    return prepare(tmp_path_factory.mktemp("data"))
