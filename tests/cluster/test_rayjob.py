"""The RayJob back-end on the real KubeRay: to the end, and through the loss of a worker pod and of the driver."""

from __future__ import annotations

from typing import Any

from tests.cluster.client import Object
from tests.cluster.conftest import MakeRun
from tests.cluster.runs import Run

RAY = {"head": {"resources": {"requests": {"cpu": "100m", "memory": "1Gi"}, "limits": {"memory": "4Gi"}}}}
# Head, driver and both workers start Ray, on a machine that is slow and shared.
READY_SECONDS = 400
# Goes on until the test is over; a commit after every twentieth step, and all of them stay.
LONG = {"steps": 100_000, "checkpoint": {"every_steps": 20, "keep": {"rolling": 1000}}}
KILL_DRIVER = """
import os, pathlib, signal
for folder in pathlib.Path("/proc").glob("[0-9]*"):
    words = (folder / "cmdline").read_bytes().split(b"\\0")
    if b"ray" in words and b"--workers" in words:
        print("killed", folder.name, flush=True)
        os.kill(int(folder.name), signal.SIGKILL)
"""


class RayRun(Run):
    """A run whose job is a RayJob."""

    def job(self) -> Object:
        """The RayJob."""
        found = self.namespace.get("rayjob", self.name)
        assert found is not None, f"no RayJob {self.name}:\n{self.namespace.dump()}"
        return found

    def conditions(self) -> dict[str, str]:
        """The state of the job, in a PyTorchJob's words, and Ray's own."""
        status = self.job().get("status", {})
        words = {"Complete": "Succeeded", "Failed": "Failed"}
        deployment = status.get("jobDeploymentStatus", "")
        return {words.get(deployment, deployment): status.get("jobStatus", "")}

    def head(self) -> Object | None:
        """The head pod, once it is there and until it is told to go."""
        pods = self.namespace.objects("pods", "ray.io/node-type=head")
        return next((pod for pod in pods if "deletionTimestamp" not in pod["metadata"]), None)

    def wait_for_claim(self, attempt: int) -> Object:
        """Wait until an attempt has claimed the run; the claim."""

        def claim() -> Object | None:
            return next((one for one in self.store.claims() if one["attempt"] == attempt), None)

        return self.namespace.wait(f"claim of attempt {attempt}", READY_SECONDS, claim)


def make_ray_run(make_run: MakeRun, **options: Any) -> RayRun:
    """A run of two workers under Ray."""
    made = make_run(backend="rayjob", ray=RAY, **options)
    return RayRun(made.name, made.namespace, made.store)


def test_a_rayjob_trains_to_the_end(make_run: MakeRun) -> None:
    run = make_ray_run(make_run, run={"steps": 200, "checkpoint": {"every_steps": 50}})

    # The namespace refuses what is below the restricted standard; that Ray works under it is seen by its readiness.
    run.namespace.wait(
        "ready head and workers", READY_SECONDS, lambda: {"coordinator", "worker"} <= components(ready(run))
    )
    submitters = run.namespace.wait("submitter", READY_SECONDS, lambda: of_component(run, "job"))
    pods = [*submitters, *of_component(run, "worker"), *of_component(run, "coordinator")]
    print("ready:", ", ".join(pod["metadata"]["name"] for pod in pods))
    assert [problem for pod in pods for problem in writable_roots(pod)] == []
    head = run.head()
    assert head is not None
    assert {"RAY_AUTH_MODE", "RAY_AUTH_TOKEN"} <= {one["name"] for one in head["spec"]["containers"][0]["env"]}

    assert run.wait_for_end() == "Succeeded"
    assert run.conditions() == {"Succeeded": "SUCCEEDED"}
    losses = run.store.steps()
    assert sorted(losses) == list(range(1, 201))
    assert losses[200] < losses[1] - 1
    assert [committed["step"] for committed in run.store.checkpoints()] == [50, 100, 150, 200]
    print(f"loss {losses[1]:.3f} -> {losses[200]:.3f}, worlds {[claim['world_size'] for claim in run.store.claims()]}")


def test_a_lost_worker_pod_costs_no_committed_step(make_run: MakeRun) -> None:
    run = make_ray_run(make_run, run=LONG)
    run.wait_for_world(2, READY_SECONDS)
    wait_for_commit(run)

    # As a drain or an eviction does: its ranks have the grace period.
    attempt = len(run.store.claims())
    victim = run.running_workers()[0]
    run.namespace.kubectl("delete", "pod", victim, "--wait=false")
    run.wait_for_claim(attempt + 1)
    assert_goes_on(run, attempt, "a worker pod was deleted")
    _, again = run.store.resumed(name(attempt), name(attempt + 1))
    assert again == 0

    # KubeRay makes another pod, and Ray grows the world again.
    run.wait_for_world(2, READY_SECONDS)
    attempt = len(run.store.claims())
    wait_for_commit(run, attempt)
    victim = run.running_workers()[-1]
    run.namespace.kubectl("delete", "pod", victim, "--wait=false", "--grace-period=0", "--force")
    run.wait_for_claim(attempt + 1)
    assert_goes_on(run, attempt, "a worker pod was killed")


def test_a_retry_of_the_whole_job_goes_on(make_run: MakeRun) -> None:
    run = make_ray_run(make_run, run=LONG)
    run.wait_for_world(2, READY_SECONDS)
    wait_for_commit(run)
    head = run.head()
    assert head is not None
    cluster = run.job()["status"]["rayClusterName"]
    attempt = len(run.store.claims())
    killed = run.namespace.kubectl(
        "exec", head["metadata"]["name"], "--container=ray-head", "--", "python3", "-c", KILL_DRIVER
    )
    assert "killed" in killed

    run.namespace.wait("retry", READY_SECONDS, lambda: run.job()["status"].get("failed") == 1)
    run.wait_for_claim(attempt + 1)
    assert_goes_on(run, attempt, "the driver was killed")
    status = run.job()["status"]
    assert status["rayClusterName"] != cluster
    assert run.status()["attempt"] == name(attempt + 1)


def wait_for_commit(run: RayRun, attempt: int = 1) -> None:
    """Wait for a checkpoint of an attempt or a later one."""
    run.namespace.wait(
        f"a checkpoint of attempt {attempt}",
        READY_SECONDS,
        lambda: any(int(one["attempt"]) >= attempt for one in run.store.checkpoints()),
    )


def assert_goes_on(run: RayRun, attempt: int, what: str) -> None:
    """The next attempt began at the newest checkpoint of this one, and its first step is the one after."""
    earlier, later = name(attempt), name(attempt + 1)
    run.namespace.wait(f"steps of {later}", READY_SECONDS, lambda: run.store.records(later))
    newest = max(one["step"] for one in run.store.checkpoints() if int(one["attempt"]) == attempt)
    claim = run.wait_for_claim(attempt + 1)
    pause, again = run.store.resumed(earlier, later)
    reason = (claim["previous_end"] or {}).get("reason")
    print(f"{what}: {earlier} -> {later} ({reason}), {pause:.1f} s without a step, {again} steps done again")
    assert claim["base_checkpoint"] == f"step-{newest:08}-{earlier}"
    assert run.store.records(later)[0]["step"] == newest + 1


def name(attempt: int) -> str:
    """As the store has it."""
    return f"a{attempt:04}"


def of_component(run: RayRun, component: str) -> list[Object]:
    """Pods of a component."""
    return run.namespace.objects("pods", f"gptrun.io/component={component}")


def ready(run: RayRun) -> list[Object]:
    """Ray's own pods if all of them are ready, none else."""
    pods = run.namespace.objects("pods", "ray.io/cluster")
    conditions = [one for pod in pods for one in pod["status"].get("conditions", []) if one["type"] == "Ready"]
    return pods if len(conditions) == len(pods) == 3 and all(one["status"] == "True" for one in conditions) else []


def components(pods: list[Object]) -> set[str]:
    """What they are."""
    return {pod["metadata"]["labels"]["gptrun.io/component"] for pod in pods}


def writable_roots(pod: Object) -> list[str]:
    """Containers whose root may be written, also of those that KubeRay added."""
    containers = [*pod["spec"]["containers"], *pod["spec"].get("initContainers", [])]
    return [
        f"{pod['metadata']['name']}/{one['name']}"
        for one in containers
        if not one.get("securityContext", {}).get("readOnlyRootFilesystem")
    ]
