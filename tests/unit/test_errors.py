"""How the end of a run is printed, by the launcher and under Ray alike."""

from __future__ import annotations

import pytest

from trainer.errors import as_error


@pytest.mark.parametrize(
    ("message", "printed"),
    [
        ("rank 1 was killed", "error: rank 1 was killed"),
        ("error: the disk is full", "error: the disk is full"),
        ("Traceback (most recent call last):", "Traceback (most recent call last):"),
        ("", ""),
    ],
)
def test_what_does_not_say_so_is_an_error(message: str, printed: str) -> None:
    assert as_error(message) == printed
