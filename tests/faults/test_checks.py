"""Every check can fail: sound evidence has no violations, and each thing that is wrong is found."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.faults.checks import Claim, Evidence, Exit, done_again, violations
from tests.faults.observe import Step
from tests.faults.plan import Fault, Kind, Moment, Plan, Store, When

PLAN = Plan(
    seed=1,
    machines=2,
    fixed=True,
    ranks_per_machine=1,
    coordinator=True,
    store=Store.S3,
    data_from_store=False,
    asynchronous=True,
    dropout=0.1,
    clocks_seconds=(0, 0),
    namespaces=False,
    moments=(Moment(When.STEP, 3, (Fault(Kind.POWER_OFF, 0, 1.0),)),),
)
ALONE = {step: (5.0 - step / 10, f"batch-{step}") for step in range(1, 7)}
SAVED = "step-00000002-a0001"


def printed(attempt: int, steps: range) -> list[Step]:
    return [Step(float(step), attempt, step, *ALONE[step]) for step in steps]


def account(seconds: float, training: float, attempt: str = "a0001") -> dict[str, Any]:
    time = f"2026-01-01T00:00:{seconds:06.3f}+00:00"
    return {"time": time, "goodput_seconds": {"training": training, "init": 1.0}, "attempt": attempt, "step": 1}


# Four steps, a commit after the second, the power off after the fourth; then on from the commit to the end.
SOUND = Evidence(
    plan=PLAN,
    alone=ALONE,
    printed=[*printed(1, range(1, 5)), *printed(2, range(3, 7))],
    lines=[
        {"attempt": "a0002", "step": step, "loss": ALONE[step][0], "batch_sha256": ALONE[step][1]} for step in (3, 4, 5)
    ],
    accounts=[account(5, 4), account(9, 8, "a0002")],
    claims=[Claim(1, None, None, 0.0), Claim(2, SAVED, "NodeLost", 100.0)],
    said_saved=[SAVED],
    committed_at={SAVED: 50.0, "step-00000006-a0002": 150.0},
    exits=[Exit(-9, ""), Exit(1, "error: a peer is gone"), Exit(0, ""), Exit(0, "")],
)


def test_a_sound_run_violates_nothing() -> None:
    assert violations(SOUND) == []
    assert done_again(SOUND) == [2]


def changed(**changes: Any) -> list[str]:
    return violations(replace(SOUND, **changes))


def with_step(step: Step) -> list[Step]:
    return [*SOUND.printed[:-1], step]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"printed": with_step(Step(6.0, 2, 6, 4.4, "other"))}, "step 6 of attempt 2 read another batch"),
        ({"printed": with_step(Step(6.0, 2, 6, 4.4 + 1e-9, "batch-6"))}, "step 6 of attempt 2 has loss"),
        ({"printed": with_step(Step(6.0, 2, 6, None, "batch-6"))}, "step 6 of attempt 2 has loss None"),
        ({"printed": SOUND.printed[:-1]}, r"steps \[6\] were never taken"),
        ({"said_saved": [SAVED, "step-00000004-a0001"]}, "step-00000004-a0001 was saved and is lost"),
        ({"unsound": {SAVED: "x is missing"}}, "checkpoint step-00000002-a0001 is wrong: x is missing"),
        ({"claims": [SOUND.claims[0], Claim(2, None, "NodeLost", 100.0)]}, "attempt 2 began from nothing beside"),
        (
            {"claims": [SOUND.claims[0], Claim(2, SAVED, "Preempted", 100.0)]},
            "attempt 2 did 2 steps again after a stop in good order",
        ),
        (
            {"committed_at": {**SOUND.committed_at, "step-00000004-a0001": 60.0}},
            "began at step 2 although step-00000004-a0001 was committed",
        ),
        ({"ended": False, "why_not": "stuck"}, "the run does not end: stuck"),
        ({"exits": [Exit(1, "Traceback (most recent call last)\nKeyError: 'x'")]}, "a traceback: KeyError: 'x'"),
        ({"exits": [Exit(2, "error: x\nexpected: y\nto do: z")]}, "ended with 2, as if its input was wrong"),
        ({"exits": [Exit(1, "")]}, "ended with 1 and says nothing"),
        ({"exits": [Exit(0, "status of x not understood: loss: a number")]}, "do not understand each other"),
        ({"accounts": [account(5, 4), account(9, 3, "a0002")]}, "goodput at step 1 of a0002 is"),
        ({"left": ["process gpt-run:rank0"]}, "left behind: process gpt-run:rank0"),
    ],
)
def test_what_does_not_hold_is_found(changes: dict[str, Any], words: str) -> None:
    found = changed(**changes)
    assert len(found) == 1, found
    with pytest.raises(ValueError, match=words):
        raise ValueError(found[0])


def test_across_world_sizes_losses_may_differ_by_rounding() -> None:
    elastic = replace(PLAN, fixed=False)
    step = Step(6.0, 2, 6, ALONE[6][0] + 1e-9, "batch-6")
    assert violations(replace(SOUND, plan=elastic, printed=with_step(step))) == []
    far = Step(6.0, 2, 6, ALONE[6][0] + 1e-4, "batch-6")
    assert len(violations(replace(SOUND, plan=elastic, printed=with_step(far)))) == 1


def test_a_flipped_checkpoint_may_be_wrong_and_passed_over() -> None:
    flipped = "step-00000004-a0001"
    assert changed(flipped=flipped, unsound={flipped: "x"}, committed_at={**SOUND.committed_at, flipped: 60.0}) == []


def test_refusals_that_a_plan_explains() -> None:
    damaged = replace(PLAN, moments=(Moment(When.STEP, 3, (Fault(Kind.FLIP_SHARD, 0, 1.0),)),))
    said = Exit(2, "error: not what was prepared\nexpected: its hash\nto do: copy it again")
    assert violations(replace(SOUND, plan=damaged, exits=[said])) == []
    silent = Exit(2, "error: not what was prepared")
    assert "does not say what to do" in violations(replace(SOUND, plan=damaged, exits=[silent]))[0]
    denied = replace(PLAN, moments=(Moment(When.STEP, 3, (Fault(Kind.STORE_DENIED, 0, 1.0),)),))
    assert "as if its input was wrong" in violations(replace(SOUND, plan=denied, exits=[said]))[0]


def test_only_a_pod_that_is_removed_by_force_may_lose_steps_although_it_was_told_to_go() -> None:
    claims = [SOUND.claims[0], Claim(2, SAVED, "Preempted", 100.0)]
    forced = replace(PLAN, moments=(Moment(When.STEP, 3, (Fault(Kind.REMOVE_WORKER, 0, 0.0),)),))
    assert violations(replace(SOUND, plan=forced, claims=claims)) == []
    deleted = replace(PLAN, moments=(Moment(When.STEP, 3, (Fault(Kind.DELETE_WORKER, 0, 0.0),)),))
    assert "in good order" in violations(replace(SOUND, plan=deleted, claims=claims))[0]
