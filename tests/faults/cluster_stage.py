"""One run of a campaign on the cluster: a release of the chart, and everything that can break.

What ends and comes back is seen as one machine, the job: Kubernetes starts pods again, which is no business of the
driver; it sets and looks at what people can (suspend, resume, the job's end). A proxy stands before the S3 server, on
the control machine, where pods reach it.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from tests.cluster import bringup, control_plane, layout
from tests.cluster.client import Namespace
from tests.cluster.runs import HOST, install, settings
from tests.cluster.slots import SLOT, remove_slots, set_slots
from tests.cluster.store import S3, Store
from tests.cluster.test_operator_faults import SPREAD
from tests.faults import cluster_faults
from tests.faults.cluster_faults import SPARE_NODE
from tests.faults.local import RUN, StoredTraining
from tests.faults.plan import Fault, Kind, Plan
from tests.faults.pods import Pods, members, wait_quietly
from tests.faults.where import GivenUp, Mend
from tests.integration.proxy import Proxy
from tests.integration.training import Process, merged
from trainer.errors import EXIT_PREEMPTED, EXIT_USER_ERROR

if TYPE_CHECKING:
    from tests.faults.cluster import OnCluster

NAME = "small"
# Of namespaces and buckets.
PREFIX = "faults-"
# Steps long enough that pods come and go between the first and the last, of few collectives, which wait for busy nodes.
_BATCH = {"sequences": 80, "micro_sequences": 20}
_GRACE_SECONDS = 60
_HANG_SECONDS = 60.0
_PATIENCE_SECONDS = 120.0
_GONE_SECONDS = 120.0
_ASKED_AGAIN_SECONDS = 180.0
_POLICY = {"enabled": True, "hang": {"seconds": 30}, "nodeLoss": {"seconds": 5}, "restart": {"failures": 100}}
# What a namespace has by itself, or from the campaign.
_NOT_LEFT = ("configmap/kube-root-ca.crt", "serviceaccount/default", "secret/store")
_KINDS = "pytorchjobs,trainingruns,deployments,replicasets,jobs,pods,services,configmaps,secrets,serviceaccounts"


class ClusterStage:
    """One run on the cluster."""

    patience_seconds = _PATIENCE_SECONDS
    flipped: str | None = None

    def __init__(self, place: OnCluster, plan: Plan, folder: Path, stack: contextlib.ExitStack) -> None:
        self.place, self.plan = place, plan
        control = place.machines["control"]
        bucket = stack.enter_context(place.bucket())
        self.proxy = control.do_in_network(lambda: Proxy(layout.S3_PORT, layout.CONTROL, layout.CONTROL))
        stack.callback(self.proxy.close)
        stack.callback(self.proxy.release)
        s3 = S3(f"http://{layout.CONTROL}:{self.proxy.port}", place.s3.access_key, place.s3.secret_key)
        self._store = Store(s3, bucket, NAME)
        changes = {key: value for key, value in RUN.items() if key != "elastic"} | {
            "model": {"dropout": plan.dropout},
            "batch": _BATCH,
            "elastic": {"budget": RUN["elastic"]["budget"], "hang_seconds": _HANG_SECONDS},
            "checkpoint": {**RUN["checkpoint"], "asynchronous": plan.asynchronous},
        }
        self._settings = settings(place.data, changes)
        objects = control_plane.S3_DATA / bucket / "runs"
        self.training = StoredTraining(folder, place.data, merged(changes, {"data": {}}), objects)
        self.namespace: Namespace = place.cluster.make_namespace(f"{PREFIX}{plan.seed}")
        stack.callback(self._remove_namespace)
        if Kind.PREEMPT in plan.kinds:
            set_slots(self.namespace, SPARE_NODE, plan.machines)
            stack.callback(remove_slots, self.namespace, SPARE_NODE)
        self.pods = Pods(self.namespace.name, NAME, self.training)
        stack.callback(self.pods.stop)
        stack.callback(bringup.repair)
        self._later = ThreadPoolExecutor()
        self._futures: list[Future[object]] = []
        stack.callback(self.settle)
        self._resuming: Future[object] | None = None
        self._installed = self._suspended = False

    # What the driver asks for.

    def machines(self) -> list[Process]:
        return [_Machine(self)]

    def retired(self) -> list[Process]:
        return [one for one in self.training.processes if one.popen.poll() is not None]

    def start_missing(self) -> None:
        if not self._installed:
            self._install()
        elif self.ended() in (EXIT_PREEMPTED, EXIT_USER_ERROR):
            self._suspended = False
            # The job is seen suspended for a while yet: one request is enough.
            if self._resuming is None or self._resuming.done():
                self._resuming = self._set_suspend(value=False)
        elif self.ended() == 1:
            raise GivenUp(f"the job has failed: {json.dumps(self.pods.job['status'].get('conditions'))[-600:]}")

    def terminate_all(self) -> None:
        """Suspend the job: all pods are told to go, and none comes back before it is resumed."""
        self._suspended = True
        self._set_suspend(value=True)

    def apply(self, fault: Fault) -> Mend | None:
        return cluster_faults.apply(self, fault)

    def hold(self, text: str) -> None:
        self.proxy.held = 0
        self.proxy.hold(text)

    def held(self) -> int:
        return self.proxy.held

    def release(self) -> None:
        self.proxy.release()

    def phase(self) -> str:
        return self.pods.phase()

    def left_behind(self) -> list[str]:
        self.settle()
        bringup.repair()
        if self.ended() != 0:
            return []  # given up: what is left has been told already
        found = []
        if not wait_quietly(lambda: not self.pods.of("worker"), _GONE_SECONDS):
            found = [f"{pod.name} still runs {_GONE_SECONDS:g} s after the run's end" for pod in self.pods.of("worker")]
        self.namespace.helm("uninstall", NAME)
        wait_quietly(lambda: not self._objects(), _GONE_SECONDS)
        found += self._objects()
        uids = self.pods.uids
        if not self._remove_namespace():
            found.append(f"namespace {self.namespace.name}")
        found += [f"process {one.name()} of a pod that is gone" for uid in uids for one in members(uid)]
        run = self.training.run
        return found + [f"{path.relative_to(run)}" for path in run.rglob("*.tmp*")]

    # What faults ask for.

    def ended(self) -> int | None:
        """0 after the job's success, 1 after its failure; None while it runs.

        Suspended and without pods it is 75, or 2 where the operator did that, as after wrong input.
        """
        conditions = self.pods.job.get("status", {}).get("conditions") or ()
        held = {one["type"] for one in conditions if one["status"] == "True"}
        if "Succeeded" in held:
            return 0
        if "Failed" in held:
            return 1
        workers = [pod for pod in self.pods.now if pod.component == "worker"]
        if not self.pods.job.get("spec", {}).get("runPolicy", {}).get("suspend") or "Suspended" not in held or workers:
            return None
        return EXIT_PREEMPTED if self._suspended else EXIT_USER_ERROR

    def scale(self, workers: int) -> None:
        """`kubectl scale`."""
        self.namespace.kubectl("scale", f"pytorchjob/{NAME}", f"--replicas={workers}")

    def later(self, action: Callable[[], object], *, again: bool = False) -> Future[object]:
        """Do what takes a while beside the run; again: until it succeeds, as people try without an API server."""

        def persist() -> None:
            deadline = time.monotonic() + _ASKED_AGAIN_SECONDS
            while True:
                try:
                    action()
                except RuntimeError:
                    if not again or time.monotonic() > deadline:
                        raise
                    time.sleep(1)
                else:
                    return

        self._futures.append(self._later.submit(persist))
        return self._futures[-1]

    def settle(self) -> None:
        """Wait for everything that was to be done later; raises what it raised."""
        while self._futures:
            self._futures.pop(0).result()

    def _install(self) -> None:
        self._installed = True
        plan, kinds = self.plan, self.plan.kinds
        node = SPARE_NODE if Kind.COORDINATOR_NODE_LOSS in kinds else layout.PLATFORM_NODE
        # One more than planned, and one less, while an elastic run is scaled.
        bounds = (plan.machines, plan.machines) if plan.fixed else (1, plan.machines + 1)
        values: dict[str, Any] = {
            "nodePool": {"affinity": SPREAD},
            "coordinator": {"nodeSelector": {HOST: node}},
            "lifecycle": {"gracePeriodSeconds": _GRACE_SECONDS},
            "policy": _POLICY,
            "jobs": {"preflight": {"enabled": False}},
        }
        if Kind.PREEMPT in kinds:
            values["gpu"] = {"resource": SLOT, "perWorker": 1}
            values["nodePool"] = {"priorityClassName": "gpt-run-low"}
        install(self.namespace, self._store, self.place.image, self._settings, (plan.machines, *bounds), **values)

    def _set_suspend(self, *, value: bool) -> Future[object]:
        patch = json.dumps({"spec": {"runPolicy": {"suspend": value}}})
        words = ("patch", f"pytorchjob/{NAME}", "--type=merge", "--patch", patch)
        return self.later(lambda: self.namespace.kubectl(*words), again=True)

    def _objects(self) -> list[str]:
        """What the namespace still has of the run."""
        names = self.namespace.kubectl("get", f"{_KINDS},poddisruptionbudgets", "--output=name").split()
        short = [name.replace(".apps", "") for name in names]
        return [name for name in short if name not in _NOT_LEFT]

    def _remove_namespace(self) -> bool:
        """Delete it; whether it went."""
        if self._namespace_is_there():
            self.namespace.delete()
        return wait_quietly(lambda: not self._namespace_is_there(), _GONE_SECONDS)

    def _namespace_is_there(self) -> bool:
        name = self.namespace.name
        return bool(self.place.cluster.kubectl("get", "namespace", name, "--ignore-not-found", "--output=name"))


class _Machine(Process):
    """The job as one machine, on which all workers are."""

    def __init__(self, stage: ClusterStage) -> None:
        super().__init__(_Job(stage), stage.training.folder / "run.yaml", 0.0)
        self._stage = stage

    def workers(self) -> list[psutil.Process]:
        return [rank for pod in self._stage.pods.of("worker") for rank in pod.ranks()]


class _Job:
    """The job in the place of `subprocess.Popen`."""

    pid = -1

    def __init__(self, stage: ClusterStage) -> None:
        self._stage = stage

    @property
    def returncode(self) -> int | None:
        return self._stage.ended()

    def poll(self) -> int | None:
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        raise NotImplementedError("the driver polls")

    terminate = kill = wait
