"""Lines between launchers and the coordinator: what goes in comes out, what is none is refused in words."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from tests.unit.elastic.hellos import hello
from trainer.elastic import messages
from trainer.elastic.reasons import Reason
from trainer.elastic.rounds import End

HELLO = hello(step=7, claim=messages.RoundClaim(id="r", number=2, seats=("x", "y"), took_step=True))


@pytest.mark.parametrize(
    "message",
    [
        HELLO,
        messages.Ready(endpoint="10.0.0.1:4000"),
        messages.Beat(step=3, took_step=True, status={"loss": 2.5}),
        messages.Failures(failures=(messages.PastFailure(age_seconds=3.5, message="out of memory"),)),
        messages.Leaving(),
        messages.Ended(round="r", end=End.FAILED, reason=Reason.OUT_OF_MEMORY, exit_code=1, message="ü"),
        messages.Bye(),
    ],
)
def test_what_a_launcher_says_arrives(message: BaseModel) -> None:
    line = messages.line_of(message)
    assert line.count(b"\n") == 1
    assert messages.from_launcher(line) == message
    with pytest.raises(messages.NotAMessage):
        messages.from_coordinator(line)


def test_fields_of_a_newer_program_are_passed_over() -> None:
    line = json.dumps({**HELLO.model_dump(mode="json"), "colour": "red"}).encode()
    assert messages.from_launcher(line) == HELLO


def test_a_round_without_seats_is_none() -> None:
    fields = HELLO.model_dump(mode="json")
    fields["claim"]["seats"] = []
    with pytest.raises(messages.NotAMessage, match=r"hello\.claim\.seats: .*at least 1 item"):
        messages.from_launcher(json.dumps(fields).encode())


@given(st.one_of(st.binary(), st.recursive(st.none() | st.integers() | st.text(), st.lists).map(json.dumps)))
def test_anything_else_is_refused_in_words(line: bytes | str) -> None:
    with pytest.raises(messages.NotAMessage, match=": "):
        messages.from_launcher(line.encode() if isinstance(line, str) else line)
