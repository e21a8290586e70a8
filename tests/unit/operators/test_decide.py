"""Decisions as a table of named cases: what is seen, what is done about it, and what the status says."""

from __future__ import annotations

from dataclasses import replace as but
from datetime import timedelta

import pytest

from operators.actions import ActionReason
from operators.api import ConditionReason
from operators.decide import decide
from operators.decisions.failures import GONE_SOURCES
from operators.decisions.size import growth_wait
from operators.observed import Coordinator
from tests.unit.operators.cases.case import Case
from tests.unit.operators.cases.lives import INPUT, LIFE, PODS
from tests.unit.operators.cases.refusals import REFUSALS
from tests.unit.operators.cases.sizes import CAPACITY, SCALE
from tests.unit.operators.cases.suspensions import FAILURES, SUSPEND
from tests.unit.operators.worlds import NOW, coordinator, done, ended, pods, run, words, world

CASES = [*SCALE, *CAPACITY, *SUSPEND, *FAILURES, *PODS, *LIFE, *INPUT, *REFUSALS]


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
    # Said of what cannot be decided upon.
    elsewhere = {ConditionReason.INVALID.value}
    assert found == {reason.value for reason in ConditionReason} - elsewhere


def test_names_of_cases_are_told_apart() -> None:
    assert len({case.name for case in CASES}) == len(CASES)


def test_a_condition_keeps_the_time_of_its_status() -> None:
    seen = world()
    first = {one.type: one for one in decide(seen, NOW).status.conditions}
    later = NOW + timedelta(seconds=50)
    written = but(seen, run=seen.run.model_copy(update={"status": decide(seen, NOW).status}), coordinator=None)
    second = {one.type: one for one in decide(written, later).status.conditions}
    changed = {type_ for type_ in second if second[type_].last_transition_time == later}
    assert changed == {"Progressing", "Healthy"}
    assert all(second[type_].last_transition_time == NOW for type_ in first if type_ not in changed)


def test_what_the_coordinator_said_stays() -> None:
    seen = world()
    told = decide(seen, NOW).status
    assert (told.step, told.loss, told.goodput) == (1200, 3.25, 0.97)
    assert told.last_checkpoint is not None
    run = seen.run.model_copy(update={"status": told})
    silent = decide(but(seen, run=run, coordinator=None, pods=()), NOW).status
    fresh = decide(but(seen, run=run, coordinator=Coordinator(NOW, "c2", "starting")), NOW).status
    gone = decide(but(seen, run=run, job=None, coordinator=None), NOW).status
    for status in (silent, fresh, gone):
        assert (status.step, status.loss, status.mfu, status.last_checkpoint) == (1200, 3.25, 0.4, told.last_checkpoint)


def test_attempts_are_added_up_over_the_lives_of_coordinators() -> None:
    seen = world(coordinator=coordinator(restarts={"Scaled": 2, "Hung": 1}))
    for life, restarts in (("c1", {"Scaled": 3, "Hung": 1}), ("c1", {"Scaled": 1}), ("c2", {"Scaled": 1})):
        run = seen.run.model_copy(update={"status": decide(seen, NOW).status})
        seen = but(seen, run=run, coordinator=coordinator(pod_uid=life, restarts=restarts))
    found = decide(seen, NOW).status
    assert {entry.reason: entry.count for entry in found.restarts} == {"Scaled": 4, "Hung": 1}
    assert len(found.failures.times) == 1


def test_ends_of_many_pods_at_once_are_one_failure() -> None:
    together = world(pods=tuple(ended(index, 1, seconds=5 + index) for index in range(4)))
    assert len(decide(together, NOW).status.failures.times) == 1
    apart = world(pods=tuple(ended(index, 1, seconds=5 + 20 * index) for index in range(4)))
    assert len(decide(apart, NOW).status.failures.times) == 4


def test_what_is_remembered_of_failures_does_not_grow_for_ever() -> None:
    old = {f"pod/gone-{index}": 1 for index in range(500)} | {"pod/uid-1": 1}
    seen = decide(world(run=run({}, {"failures": {"seen": old}}), pods=pods(p1=ended(1, 1))), NOW).status.failures.seen
    assert seen["pod/uid-1"] == 1
    assert len(seen) <= GONE_SOURCES + 2
    assert "pod/gone-499" in seen


def test_many_growths_in_vain_do_not_overflow() -> None:
    waits = [growth_wait(20, failures).total_seconds() for failures in range(1000)]
    assert waits[:4] == [20, 40, 80, 160]
    assert max(waits) == 3600
    assert growth_wait(0, 0).total_seconds() == 0
    assert growth_wait(7200, 3).total_seconds() == 7200
