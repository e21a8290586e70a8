"""Decisions as a table of named cases: what is seen, what is done about it, and what the status says."""

from __future__ import annotations

from dataclasses import replace as but
from datetime import timedelta

import pytest

from operators.actions import ActionReason
from operators.api import ConditionReason
from operators.decide import decide
from tests.unit.operators.cases.case import Case
from tests.unit.operators.cases.lives import INPUT, LIFE, PODS
from tests.unit.operators.cases.sizes import CAPACITY, SCALE
from tests.unit.operators.cases.suspensions import FAILURES, SUSPEND
from tests.unit.operators.worlds import NOW, done, words

CASES = [*SCALE, *CAPACITY, *SUSPEND, *FAILURES, *PODS, *LIFE, *INPUT]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_table(case: Case) -> None:
    decision = decide(case.seen, NOW)
    assert tuple(map(words, decision.actions)) == case.actions
    assert decision.status.phase == case.phase
    said = {one.type: f"{one.status} {one.reason}" for one in decision.status.conditions}
    assert {type_: said.get(type_) for type_ in case.conditions} == case.conditions
    messages = [action.message for action in decision.actions] + [one.message for one in decision.status.conditions]
    for word in case.says:
        assert any(word in message for message in messages), messages
    if case.look_again is not None:
        assert decision.look_again == timedelta(seconds=case.look_again)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_what_is_decided_is_decided_again_until_it_is_done(case: Case) -> None:
    first = decide(case.seen, NOW)
    written = but(case.seen, run=case.seen.run.model_copy(update={"status": first.status}))
    second = decide(written, NOW)
    assert list(map(words, second.actions)) == list(map(words, first.actions))
    assert second.status == first.status
    assert decide(case.seen, NOW) == first


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_what_is_done_is_not_done_again(case: Case) -> None:
    after = done(case.seen, decide(case.seen, NOW))
    again = decide(after, NOW)
    assert again.actions == ()
    assert decide(done(after, again), NOW).status == again.status


def test_every_reason_of_an_action_has_a_case() -> None:
    reasons = {line.split()[-1] for case in CASES for line in case.actions}
    assert reasons == {reason.value for reason in ActionReason}


def test_every_reason_of_a_condition_has_a_case() -> None:
    found = {one.reason for case in CASES for one in decide(case.seen, NOW).status.conditions}
    assert found == {reason.value for reason in ConditionReason}


def test_names_of_cases_are_told_apart() -> None:
    assert len({case.name for case in CASES}) == len(CASES)
