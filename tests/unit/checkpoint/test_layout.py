"""Names and documents parse back to what wrote them, and nothing else parses."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.checkpoint.layout import (
    Committed,
    CorruptCheckpoint,
    FileEntry,
    checkpoint_name,
    group_by_folder,
    marker_bytes,
    parse_committed,
    parse_name,
)
from trainer.errors import UserError


def committed(**changed: Any) -> Committed:
    fields: dict[str, Any] = {
        "nonce": "n",
        "run": "tiny",
        "step": 250,
        "tokens": 1000,
        "epoch": 0.5,
        "attempt": 3,
        "world_size": 2,
        "loss": 2.5,
        "config_sha256": "a",
        "model_sha256": "b",
        "dataset_sha256": "c",
        "tokenizer_sha256": "d",
        "committed_at": datetime(2026, 1, 2, tzinfo=UTC),
        "duration_seconds": 1.5,
        "bytes": 7,
        "files": {".metadata": FileEntry(bytes=7, sha256="e")},
    }
    return Committed(**(fields | changed))


@given(st.integers(0, 10**12), st.integers(1, 10**6))
def test_names_parse_back(step: int, attempt: int) -> None:
    assert parse_name(checkpoint_name(step, attempt)) == (step, attempt)


def test_names_sort_by_step() -> None:
    assert checkpoint_name(250, 3) == "step-00000250-a0003"
    assert checkpoint_name(99, 12) < checkpoint_name(100, 1)


@pytest.mark.parametrize("name", ["step-250-a0003", "step-00000250-a3", "step-000000250-a0003", "step-00000250", "x"])
def test_other_names_are_not_checkpoints(name: str) -> None:
    assert parse_name(name) is None


def test_a_marker_parses_back_even_with_a_loss_that_is_no_number() -> None:
    marker = committed(loss=math.nan, validation_loss=math.inf)
    found = parse_committed(marker_bytes(marker), "s3://b/tiny/checkpoints/step-00000250-a0003")
    assert math.isnan(found.loss)
    assert found.validation_loss == math.inf
    assert found.model_copy(update={"loss": 0}) == marker.model_copy(update={"loss": 0})


def test_no_bit_of_a_sealed_marker_can_flip_unseen() -> None:
    where = "s3://b/tiny/checkpoints/step-00000250-a0003"
    marker = committed().sealed()
    data = marker_bytes(marker)
    assert parse_committed(data, where) == marker
    for place in range(len(data)):
        flipped = data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]
        try:
            found = parse_committed(flipped, where)
        except CorruptCheckpoint:
            continue
        except UserError as error:
            assert "format" in str(error)  # noqa: PT017  # as of a newer program: refused all the same
            continue
        # White space says nothing; without its name the hash is not looked at, and the rest is as it was.
        assert found.model_copy(update={"sha256": marker.sha256}) == marker


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "is not the JSON"),
        (b"[" * 100_000, "is not the JSON"),
        (b"[]", "is not the JSON"),
        (b'{"format": 1}', "has no valid 'nonce'"),
        (marker_bytes(committed(step=251)), "belongs to step-00000251-a0003"),
    ],
)
def test_a_broken_marker_is_corrupt(data: bytes, reason: str) -> None:
    with pytest.raises(CorruptCheckpoint, match=reason):
        parse_committed(data, "x/step-00000250-a0003")


def test_a_newer_format_is_the_users_to_mend() -> None:
    with pytest.raises(UserError, match="checkpoint format 2"):
        parse_committed(b'{"format": 2}', "x/step-00000250-a0003")


def test_listings_are_grouped_and_strangers_left_out() -> None:
    files = [
        ("checkpoints/step-00000250-a0003/COMMITTED.json", 1),
        ("checkpoints/step-00000250-a0003/__0_0.distcp", 2),
        ("checkpoints/notes/readme", 3),
        ("checkpoints/stray", 4),
    ]
    assert group_by_folder(files) == {"step-00000250-a0003": {"COMMITTED.json": 1, "__0_0.distcp": 2}}
