"""What `helm upgrade`, `rollback` and `uninstall` do to a run that trains; docs/kubernetes.md says the same."""

from __future__ import annotations

from tests.cluster.conftest import MakeRun
from tests.cluster.runs import LONG, Run, assert_nothing_lost
from tests.integration.training import RUN

MORE_STEPS = 5
OLD_RATE, NEW_RATE = RUN["optimizer"]["lr"], 1e-3


def test_an_upgrade_takes_effect_by_suspend_and_resume(make_run: MakeRun) -> None:
    run = make_run(run=LONG)
    run.wait_for_world(2)
    run.scale(1)
    run.wait_for_world(1)
    run.namespace.wait("one worker", 60, lambda: len(run.workers()) == 1)
    first_file = run_file(run)

    workers, attempt = run.containers(), run.attempt()
    run.upgrade("--set-json", f"run.optimizer.lr={NEW_RATE}")
    assert run_file(run) != first_file
    assert replicas(run) == 1
    run.wait_for_step(run.told("step") + MORE_STEPS)
    assert (run.containers(), run.attempt()) == (workers, attempt)

    # A pod that comes now has the new file; it waits for those that have the old one to go.
    run.scale(2)
    run.namespace.wait(
        "word of the worker that waits",
        120,
        lambda: "waiting: the launchers that are here have config" in newest_log(run),
    )
    run.wait_for_step(run.told("step") + MORE_STEPS)
    assert (run.status()["world_size"], run.attempt()) == (1, attempt)

    run.suspend()
    run.upgrade("--set", "workers.replicas=3")
    assert replicas(run) == 3
    run.namespace.helm("rollback", run.name, "2")
    assert replicas(run) == 2
    run.resume()
    run.wait_for_attempt(attempt + 1)
    run.wait_for_world(2)

    workers, attempts = run.containers(), run.attempt()
    run.namespace.helm("rollback", run.name, "1")
    assert (replicas(run), run_file(run)) == (2, first_file)
    run.wait_for_step(run.told("step") + MORE_STEPS)
    assert (run.containers(), run.attempt()) == (workers, attempts)

    run.remove()
    assert_nothing_lost(run, attempts)
    assert rate(run, attempt) > NEW_RATE
    assert rate(run, attempts) <= NEW_RATE


def test_checkpoints_outlive_an_uninstall(make_run: MakeRun) -> None:
    run = make_run(run=LONG)
    run.wait_for_world(2)
    run.wait_for_step(MORE_STEPS)

    run.namespace.helm("uninstall", run.name)
    run.wait_for_no_workers()
    assert run.store.checkpoints()[-1]["step"] == run.store.records()[-1]["step"]
    kinds = "pytorchjobs,deployments,services,configmaps,poddisruptionbudgets,networkpolicies"
    run.namespace.wait(
        "removal of all objects", 60, lambda: not run.namespace.objects(kinds, f"gptrun.io/run={run.name}")
    )

    make_run(run=LONG)
    run.wait_for_attempt(2)
    run.remove()
    assert_nothing_lost(run, attempts=2)


def replicas(run: Run) -> int:
    """The live number of workers."""
    return int(run.job()["spec"]["pytorchReplicaSpecs"]["Worker"]["replicas"])


def run_file(run: Run) -> str:
    """Hash of the run file that new pods begin with."""
    return str(run.job()["metadata"]["annotations"]["gptrun.io/run-sha256"])


def newest_log(run: Run) -> str:
    """Log of the worker that came last."""
    pods = sorted(run.workers(), key=lambda pod: pod["metadata"]["creationTimestamp"])
    return run.namespace.log(pods[-1]["metadata"]["name"])


def rate(run: Run, attempt: int) -> float:
    """Highest learning rate of an attempt."""
    return max(float(record["lr"]) for record in run.store.records(f"a{attempt:04}"))
