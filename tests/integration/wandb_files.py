"""What the files hold that wandb writes in offline mode, by a reading of our own and by wandb's messages."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from wandb.proto.wandb_internal_pb2 import Record

from trainer.metrics.trackers.wandb_file import records_of


def offline_files(folder: Path) -> list[Path]:
    """In the order of time."""
    return sorted(folder.glob("wandb/offline-run-*/*.wandb"))


def messages(file: Path) -> list[Any]:
    """Everything in a file."""
    found = []
    for content in records_of(file.read_bytes()):
        found.append(Record())
        found[-1].ParseFromString(content)
    return found


def rows(file: Path) -> dict[int, dict[str, Any]]:
    """Values by step; wandb's own left out, and no step twice."""
    found: dict[int, dict[str, Any]] = {}
    for message in messages(file):
        if message.HasField("history"):
            items = message.history.item
            values = {item.key or ".".join(item.nested_key): json.loads(item.value_json) for item in items}
            assert message.history.step.num not in found
            found[message.history.step.num] = {key: value for key, value in values.items() if key[0] != "_"}
    return found
