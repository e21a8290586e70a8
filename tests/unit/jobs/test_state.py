"""What job objects and pods say of a run, and how many workers it may have."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from trainer.errors import UserError
from trainer.jobs.backends import pytorchjob_phase, rayjob_phase
from trainer.jobs.state import (
    ContainerEnd,
    JobState,
    Phase,
    Pod,
    check_replicas,
    complaints_of,
    ends_of,
    with_pods,
)

RUN = JobState("PyTorchJob", "gpt2", Phase.RUNNING, "", replicas=2, min_replicas=2, max_replicas=4, uid="u")
POD = Pod("gpt2-worker-0", "a", "worker", "pytorch", datetime(2026, 1, 1, tzinfo=UTC))


@pytest.mark.parametrize("wanted", [2, 3, 4])
def test_numbers_within_the_bounds(wanted: int) -> None:
    check_replicas(RUN, wanted)


@pytest.mark.parametrize(
    ("state", "wanted", "words"),
    [
        (RUN, 0, "gpt-run job suspend gpt2"),
        (RUN, -1, "gpt-run job suspend gpt2"),
        (RUN, 1, "2 to 4 workers"),
        (RUN, 5, "2 to 4 workers"),
        (replace(RUN, min_replicas=None, max_replicas=None), 0, "1 workers or more"),
        (replace(RUN, phase=Phase.SUCCEEDED), 3, "gpt2 is Succeeded"),
    ],
)
def test_numbers_that_are_refused(state: JobState, wanted: int, words: str) -> None:
    with pytest.raises(UserError) as refused:
        check_replicas(state, wanted)
    assert words in str(refused.value)


def test_a_job_without_bounds_takes_any_number() -> None:
    check_replicas(replace(RUN, min_replicas=None, max_replicas=None), 100)


@pytest.mark.parametrize(
    ("conditions", "suspend", "queued", "phase"),
    [
        ({}, False, False, Phase.PENDING),
        ({"Created": "made"}, False, False, Phase.PENDING),
        ({"Created": "", "Running": "runs"}, False, False, Phase.RUNNING),
        ({"Created": "", "Restarting": "again"}, False, False, Phase.RUNNING),
        ({"Created": "", "Suspended": "by somebody"}, True, False, Phase.SUSPENDED),
        # The operator has not yet said so.
        ({"Created": "", "Running": "runs"}, True, False, Phase.SUSPENDED),
        ({"Created": "", "Suspended": ""}, True, True, Phase.QUEUED),
        ({"Created": "", "Succeeded": "done"}, False, False, Phase.SUCCEEDED),
        ({"Created": "", "Succeeded": "done"}, True, True, Phase.SUCCEEDED),
        ({"Created": "", "Restarting": "", "Failed": "backoffLimit"}, False, False, Phase.FAILED),
    ],
)
def test_phase_of_a_pytorchjob(conditions: dict[str, str], suspend: bool, queued: bool, phase: Phase) -> None:
    found, message = pytorchjob_phase(conditions, suspend=suspend, queued=queued)
    assert found is phase
    assert message in {"", *conditions.values()}


@pytest.mark.parametrize(
    ("deployment", "job", "suspend", "queued", "phase"),
    [
        ("", "", False, False, Phase.PENDING),
        ("Initializing", "", False, False, Phase.PENDING),
        ("Running", "RUNNING", False, False, Phase.RUNNING),
        ("Retrying", "FAILED", False, False, Phase.RUNNING),
        ("Suspending", "RUNNING", True, False, Phase.DRAINING),
        ("Suspended", "", True, False, Phase.SUSPENDED),
        ("", "", True, True, Phase.QUEUED),
        ("Complete", "SUCCEEDED", False, False, Phase.SUCCEEDED),
        ("Complete", "STOPPED", False, False, Phase.FAILED),
        ("Failed", "FAILED", False, False, Phase.FAILED),
    ],
)
def test_phase_of_a_rayjob(deployment: str, job: str, suspend: bool, queued: bool, phase: Phase) -> None:
    assert rayjob_phase(deployment, job, suspend=suspend, queued=queued) is phase


def test_a_suspended_run_drains_while_workers_save() -> None:
    suspended = replace(RUN, phase=Phase.SUSPENDED)
    coordinator = replace(POD, name="gpt2-coordinator-1", component="coordinator")
    assert with_pods(suspended, [POD, coordinator]) is Phase.DRAINING
    assert with_pods(replace(suspended, phase=Phase.QUEUED), [POD]) is Phase.DRAINING
    # Its container has ended before, and runs again.
    assert with_pods(suspended, [replace(POD, end=ContainerEnd(1, ""))]) is Phase.DRAINING
    assert with_pods(suspended, [replace(POD, phase="Failed", leaving=True)]) is Phase.DRAINING
    assert with_pods(suspended, [replace(POD, phase="Succeeded"), coordinator]) is Phase.SUSPENDED
    assert with_pods(suspended, [coordinator]) is Phase.SUSPENDED
    assert with_pods(RUN, [POD]) is Phase.RUNNING


def test_pods_that_do_not_start_and_pods_that_failed() -> None:
    pods = [
        POD,
        replace(POD, name="b", stuck=("ImagePullBackOff", "no such image")),
        replace(POD, name="c", end=ContainerEnd(75, "saved")),
        replace(POD, name="d", end=ContainerEnd(2, "error: no data")),
        replace(POD, name="e", end=ContainerEnd(137, "")),
    ]
    assert complaints_of(pods) == {("b", "ImagePullBackOff"): "b: ImagePullBackOff: no such image"}
    assert ends_of(pods) == ["d ended with 2: error: no data", "e ended with 137"]
