"""What people do to a TrainingRun with kubectl, and what the operator does about wrong input and a crash loop."""

from __future__ import annotations

import time

import pytest

from tests.cluster.conftest import MakeRun
from tests.cluster.platform import (
    POLICY,
    Platform,
    condition,
    events,
    patch,
    replicas,
    scale_unguarded,
    status,
    wait_for_event,
    wait_for_phase,
)
from tests.cluster.runs import LONG, WAIT_SECONDS, assert_nothing_lost
from trainer.elastic.reasons import Reason

NO_PREFLIGHT = {"preflight": {"enabled": False}}
MORE_STEPS = 5
SOON_SECONDS = 30
PREEMPTIONS = 3


def test_a_scale_out_of_bounds_is_refused_and_set_back_where_nothing_refuses(
    platform: Platform, make_run: MakeRun
) -> None:
    run = make_run(run=LONG, policy=POLICY)
    run.wait_for_world(2)
    for target in (f"pytorchjob/{run.name}", f"tr/{run.name}"):
        for count in (0, 9):
            with pytest.raises(RuntimeError) as caught:
                run.namespace.kubectl("scale", target, f"--replicas={count}")
            print(f"kubectl scale {target} --replicas={count}: {caught.value}")
            assert "suspend" in str(caught.value) or "1 to 3" in str(caught.value) or "elastic" in str(caught.value)
    assert replicas(run) == 2

    with platform.without_guards():
        scale_unguarded(run, 9)
        wait_for_event(run, "OutOfBounds")
        run.namespace.wait("scale within the bounds", SOON_SECONDS, lambda: replicas(run) == 3)

    run.namespace.kubectl("scale", f"tr/{run.name}", "--replicas=1")
    run.wait_for_world(1)
    assert replicas(run) == 1


def test_suspended_and_resumed_by_its_spec(platform: Platform, make_run: MakeRun) -> None:
    run = make_run(run=LONG, policy=POLICY)
    run.wait_for_world(2)
    run.wait_for_step(MORE_STEPS)
    patch(run, {"suspend": True})
    wait_for_phase(run, "Suspended")
    run.wait_for_no_workers()
    newest = run.store.checkpoints()[-1]
    found = status(run)
    assert (found["step"], found["lastCheckpoint"]["step"]) == (newest["step"], newest["step"])
    assert condition(run, "Progressing")[:2] == ("False", "Suspended")

    patch(run, {"suspend": False})
    run.wait_for_attempt(2, size=2)
    wait_for_phase(run, "Running")
    attempts = run.attempt()
    run.remove()
    assert_nothing_lost(run, attempts)


def test_it_is_waited_for_described_and_given_up(platform: Platform, make_run: MakeRun) -> None:
    run = make_run(policy=POLICY)
    run.namespace.kubectl("wait", "--for=condition=Succeeded", f"tr/{run.name}", f"--timeout={WAIT_SECONDS * 2}s")
    line = run.namespace.kubectl("get", "tr", run.name)
    print(line)
    assert "Succeeded" in line
    told = run.namespace.kubectl("describe", "tr", run.name)
    assert "step-" in told  # the checkpoint
    assert status(run)["step"] == status(run)["stepsTotal"]

    run.namespace.kubectl("delete", "tr", run.name)
    assert run.conditions().get("Succeeded")


def test_a_job_goes_on_without_its_training_run(platform: Platform, make_run: MakeRun) -> None:
    run = make_run(run=LONG, policy=POLICY)
    run.wait_for_world(2)
    wait_for_phase(run, "Running")
    run.namespace.kubectl("delete", "tr", run.name)
    said = run.namespace.wait(
        "word on the job",
        SOON_SECONDS,
        lambda: [one for one in events(run.namespace, "PyTorchJob", run.name) if one["reason"] == "TrainingRunDeleted"],
    )
    print(said[0]["message"])
    run.wait_for_step(run.told("step") + MORE_STEPS)
    assert run.attempt() == 1


def test_wrong_input_is_suspended_at_once_and_goes_on_when_corrected(
    platform: Platform, make_run: MakeRun, dataset: str
) -> None:
    wrong = f"{dataset}-gone"
    run = make_run(run={**LONG, "data": {"train": wrong}}, policy=POLICY, jobs=NO_PREFLIGHT)
    wait_for_event(run, "ConfigInvalid")
    run.wait_for_no_workers()
    wait_for_phase(run, "Suspended")
    state, reason, message = condition(run, "Progressing")
    print(message)
    assert (state, reason) == ("False", "ConfigInvalid")
    assert wrong.removeprefix("s3://") in message
    restarts = [pod["status"]["containerStatuses"][0]["restartCount"] for pod in run.workers()]
    assert sum(restarts) <= 2

    run.upgrade("--set", f"run.data.train={dataset}")
    run.wait_for_world(2)
    wait_for_phase(run, "Running")
    assert condition(run, "Healthy")[0] == "True"


def test_a_crash_loop_is_given_up_with_the_last_error(platform: Platform, make_run: MakeRun) -> None:
    broken = {"optimizer": {"lr": 1e30, "clip_norm": None}, "elastic": {"budget": {"failures": 100}}}
    run = make_run(run={**LONG, **broken}, policy={**POLICY, "restart": {"failures": 2}})
    run.namespace.kubectl("wait", "--for=condition=Failed", f"tr/{run.name}", f"--timeout={WAIT_SECONDS * 2}s")
    state, reason, message = condition(run, "Failed")
    print(message)
    assert (state, reason) == ("True", "BudgetExhausted")
    assert "loss" in message
    run.wait_for_no_workers()
    assert status(run)["phase"] == "Failed"
    failures = [claim for claim in run.store.claims() if (claim["previous_end"] or {}).get("counted")]
    print(f"{len(failures)} failed attempts were followed by another")
    assert len(failures) <= 3


def test_preemptions_are_no_failures(platform: Platform, make_run: MakeRun) -> None:
    run = make_run(run=LONG, policy={**POLICY, "restart": {"failures": 0}})
    run.wait_for_world(2)
    for number in range(PREEMPTIONS):
        run.namespace.kubectl("delete", "pod", f"{run.name}-worker-{number % 2}")
        run.wait_for_attempt(number * 2 + 2, size=2)
    time.sleep(5)  # the operator's next look
    found = status(run)
    counts = {entry["reason"]: entry["count"] for entry in found.get("restarts", [])}
    print(counts)
    assert counts[Reason.PREEMPTED] >= PREEMPTIONS
    assert found.get("failures", {}).get("times", []) == []
    assert found["phase"] == "Running"
    assert "Failed" not in run.conditions()
    run.remove()
    assert_nothing_lost(run, len(run.store.claims()))
