"""The word under which a failed file is counted."""

from __future__ import annotations

import pytest

from trainer.data.fetch.remote import Cut, Garbled, StatusError, Unusable, unusable


def web_error(status: int) -> StatusError:
    return StatusError(status, "Reason", {})


@pytest.mark.parametrize(
    ("error", "word"),
    [
        (web_error(404), "missing"),
        (web_error(410), "missing"),
        (FileNotFoundError("x"), "missing"),
        (web_error(401), "refused"),
        (PermissionError("x"), "refused"),
        (web_error(429), "busy"),
        (web_error(503), "busy"),
        (web_error(500), "unreachable"),
        (ConnectionRefusedError("x"), "unreachable"),
        (TimeoutError("x"), "unreachable"),
        (Cut("x"), "truncated"),
        (Garbled("x"), "malformed"),
        (web_error(418), "malformed"),
        (ValueError("x"), "malformed"),
    ],
)
def test_words(error: Exception, word: str) -> None:
    assert unusable(error).word == word


def test_a_message_says_where_and_keeps_secrets() -> None:
    assert str(unusable(web_error(503), ", at byte 7")) == "HTTP status 503 Reason, at byte 7"
    assert "hidden" not in str(unusable(ValueError("https://h/a?sig=hidden")))
    first = Unusable("checksum", "as it is")
    assert unusable(first, ", at byte 7") is first
