"""`kubectl scale tr` on a RayJob, whose KubeRay follows no change of its own number of workers."""

from __future__ import annotations

import time

from tests.cluster.conftest import MakeRun
from tests.cluster.platform import POLICY, Platform, status, training_run, wait_for_event, wait_for_phase
from tests.cluster.test_rayjob import LONG, READY_SECONDS, make_ray_run


def test_a_rayjob_is_scaled_by_its_training_run(platform: Platform, make_run: MakeRun) -> None:
    run = make_ray_run(make_run, run=LONG, workers=(2, 1, 3), policy=POLICY)
    run.wait_for_world(2, READY_SECONDS)
    wait_for_phase(run, "Running", READY_SECONDS)
    head = run.head()
    assert head is not None
    for workers in (1, 3):
        started = time.monotonic()
        run.namespace.kubectl("scale", f"tr/{run.name}", f"--replicas={workers}")
        wait_for_event(run, "ScaleRequested")
        run.wait_for_world(workers, READY_SECONDS)
        print(f"{workers} workers {time.monotonic() - started:.1f} s after kubectl scale tr")
        (group,) = run.job()["spec"]["rayClusterSpec"]["workerGroupSpecs"]
        cluster = run.namespace.get("raycluster", run.job()["status"]["rayClusterName"])
        assert cluster is not None
        assert group["replicas"] == cluster["spec"]["workerGroupSpecs"][0]["replicas"] == workers
        run.namespace.wait("the number in its status", 60, lambda workers=workers: status(run)["workers"] == workers)
    # The same Ray cluster all along: nothing was made anew for it.
    still = run.head()
    assert still is not None
    assert still["metadata"]["uid"] == head["metadata"]["uid"]
    assert training_run(run)["spec"]["replicas"] == 3
