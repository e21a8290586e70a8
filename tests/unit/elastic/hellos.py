"""What launchers of the tests say first."""

from __future__ import annotations

from typing import Any

from trainer.elastic import messages


def hello(**changes: Any) -> messages.Hello:
    """A launcher of two workers, with some fields changed."""
    fields = {
        "protocol": messages.PROTOCOL,
        "run": "small",
        "version": "1",
        "config_sha256": "ab",
        "id": "x",
        "host": "node",
        "slots": 2,
        "min_nodes": 1,
        "max_nodes": 3,
        "budget_failures": 3,
        "budget_window_seconds": 60,
    }
    return messages.Hello(**{**fields, **changes})
