"""The coordinator's process: it lives as long as it decides."""

from __future__ import annotations

import asyncio
import urllib.request

import pytest

from tests.integration.servers import free_port
from tests.ipv6 import needs_ipv6
from trainer.addresses import EVERYWHERE, joined
from trainer.elastic.coordinator import Coordinator
from trainer.elastic.server import serve_coordinator
from trainer.elastic.status import RunStatus, StatusServer


@pytest.mark.parametrize("host", ["127.0.0.1", pytest.param("::1", marks=needs_ipv6)])
def test_launchers_and_probes_of_either_family_are_heard(host: str) -> None:
    async def knock() -> None:
        coordinator = Coordinator(run=None)
        port = await coordinator.start(EVERYWHERE, 0)
        _, writer = await asyncio.open_connection(host, port)
        writer.close()
        await writer.wait_closed()
        await coordinator.close()

    asyncio.run(knock())
    server = StatusServer(RunStatus(), EVERYWHERE, 0)
    try:
        with urllib.request.urlopen(f"http://{joined(host, server.port)}/healthz", timeout=20) as answer:
            assert answer.read() == b"ok\n"
    finally:
        server.close()


def test_a_coordinator_that_cannot_decide_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(_coordinator: Coordinator) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(Coordinator, "_act", fails)
    with pytest.raises(ZeroDivisionError):
        serve_coordinator(port=free_port(), http_port=free_port(), run=None)
