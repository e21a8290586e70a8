"""A full disk is the user's error, every other one is passed on."""

from __future__ import annotations

from pathlib import Path

import pytest

from trainer.durable import full_disk_named
from trainer.errors import UserError

FULL = Path("/dev/full")


@pytest.mark.skipif(not FULL.exists(), reason="no /dev/full on this system")
def test_a_full_disk_says_what_needs_room_and_how_much_there_is(tmp_path: Path) -> None:
    with (
        pytest.raises(UserError) as caught,
        full_disk_named(tmp_path, needs="10 shards", fix="delete something"),
        FULL.open("wb", buffering=0) as file,
    ):
        file.write(b"x")
    assert caught.value.found.startswith(f"{tmp_path}: No space left on device; its disk has ")
    assert (caught.value.expected, caught.value.fix) == ("room for 10 shards", "delete something")


def test_another_error_is_passed_on(tmp_path: Path) -> None:
    with pytest.raises(IsADirectoryError), full_disk_named(tmp_path, needs="a", fix="b"):
        tmp_path.read_bytes()
