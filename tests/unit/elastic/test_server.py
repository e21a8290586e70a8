"""The coordinator's process: it lives as long as it decides."""

from __future__ import annotations

import pytest

from tests.integration.servers import free_port
from trainer.elastic.coordinator import Coordinator
from trainer.elastic.server import serve_coordinator


def test_a_coordinator_that_cannot_decide_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(_coordinator: Coordinator) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(Coordinator, "_act", fails)
    with pytest.raises(ZeroDivisionError):
        serve_coordinator(port=free_port(), http_port=free_port(), run=None)
