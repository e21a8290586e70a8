"""The kinds of job that a run can be: one class each, all with the few things that differ between them.

`find_run` looks a run up by name in all of them. Another kind (a TrainJob, say) is one more class in `_BACKENDS`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from kubeflow.training import TrainingClient
from kubeflow.training.constants import constants as kubeflow
from kubernetes import client

from trainer.errors import UserError
from trainer.jobs.api_errors import INSTALL
from trainer.jobs.cluster import FIELD_MANAGER, TIMEOUTS, Cluster
from trainer.jobs.rank0 import pod_of_rank_0
from trainer.jobs.state import JobState, Phase, Pod

QUEUE_LABEL = kubeflow.LOCAL_QUEUE_LABEL
SHA_ANNOTATION = "gptrun.io/run-sha256"
HELM_ANNOTATION = "meta.helm.sh/release-name"
# What our operator leaves on a job that it suspends, and by which it knows that it may resume it.
MARK_ANNOTATION = "gptrun.io/suspended-for"
SUBMITTER = "submitter"


class Backend(Protocol):
    """What `gpt-run job` needs of a kind of job."""

    kind: str
    group: str
    plural: str
    scalable: bool
    """Whether it has a scale subresource."""

    def __init__(self, cluster: Cluster) -> None: ...

    def read(self, name: str) -> JobState | None:
        """The job of this name; None if there is none, or if the cluster does not know this kind."""

    def names(self) -> list[str] | None:
        """Names of the jobs of ours that are there; None if the cluster does not know this kind."""

    def set_suspend(self, name: str, suspend: bool) -> None:
        """Suspend or resume, as a person's word: our operator's own mark goes."""

    def scale(self, state: JobState, replicas: int) -> None:
        """Change the number of worker pods, within the bounds. UserError, with what is right instead, where that
        cannot be."""

    def keep_replicas(self, item: dict[str, Any], state: JobState) -> None:
        """Put the live number of workers into a rendered job that is applied again: `scale` has the last word."""

    def log_pod(self, document: dict[str, Any] | None, pods: Sequence[Pod], /) -> tuple[Pod | None, bool]:
        """Whose log is rank 0's, and whether that is certain."""


class PyTorchJob:
    """By the training operator."""

    kind = kubeflow.PYTORCHJOB_KIND
    group = kubeflow.GROUP
    plural = kubeflow.PYTORCHJOB_PLURAL
    scalable = True

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._client = TrainingClient(client_configuration=cluster.api.configuration, namespace=cluster.namespace)

    def read(self, name: str) -> JobState | None:
        found = self._cluster.find(f"looking for {self.kind} {name}", self._client.get_job, name, timeout=TIMEOUTS[1])
        if found is None:
            return None
        conditions = self._client.get_job_conditions(job=found)
        worker = found.spec.pytorch_replica_specs["Worker"]
        elastic = found.spec.elastic_policy
        phase, message = pytorchjob_phase(
            {one.type: one.message or "" for one in conditions if one.status == kubeflow.CONDITION_STATUS_TRUE},
            suspend=bool(found.spec.run_policy.suspend),
            queued=QUEUE_LABEL in (found.metadata.labels or {}),
        )
        return JobState(
            kind=self.kind,
            phase=phase,
            message=message,
            replicas=1 if worker.replicas is None else worker.replicas,
            min_replicas=elastic.min_replicas if elastic else None,
            max_replicas=elastic.max_replicas if elastic else None,
            suspend=bool(found.spec.run_policy.suspend),
            **_identity(found.metadata.name, found.metadata.uid, found.metadata.labels, found.metadata.annotations),
        )

    def names(self) -> list[str] | None:
        return _names(self._cluster, self)

    def set_suspend(self, name: str, suspend: bool) -> None:
        change = {**_UNMARKED, "spec": {"runPolicy": {"suspend": suspend}}}
        self._cluster.call(_changing(name, suspend), self._client.update_job, change, name)

    def scale(self, state: JobState, replicas: int) -> None:
        self._cluster.call(
            f"scaling {state.name}",
            self._client.custom_api.patch_namespaced_custom_object_scale,
            self.group,
            kubeflow.VERSION,
            self._cluster.namespace,
            self.plural,
            state.name,
            {"spec": {"replicas": replicas}},
            field_manager=FIELD_MANAGER,
            _request_timeout=TIMEOUTS,
        )

    def keep_replicas(self, item: dict[str, Any], state: JobState) -> None:
        item["spec"]["pytorchReplicaSpecs"]["Worker"]["replicas"] = state.replicas

    def log_pod(self, document: dict[str, Any] | None, pods: Sequence[Pod]) -> tuple[Pod | None, bool]:
        return pod_of_rank_0(document, pods)


class RayJob:
    """By KubeRay."""

    kind = "RayJob"
    group = "ray.io"
    plural = "rayjobs"
    scalable = False

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._custom = client.CustomObjectsApi(cluster.api)
        self._place = (self.group, "v1", cluster.namespace, self.plural)

    def read(self, name: str) -> JobState | None:
        found = self._cluster.find(
            f"looking for {self.kind} {name}",
            self._custom.get_namespaced_custom_object,
            *self._place,
            name,
            _request_timeout=TIMEOUTS,
        )
        if found is None:
            return None
        meta, spec, status = found["metadata"], found["spec"], found.get("status") or {}
        workers = (spec.get("rayClusterSpec") or {}).get("workerGroupSpecs") or [{}]
        return JobState(
            kind=self.kind,
            phase=rayjob_phase(
                str(status.get("jobDeploymentStatus") or ""),
                str(status.get("jobStatus") or ""),
                suspend=bool(spec.get("suspend")),
                queued=QUEUE_LABEL in (meta.get("labels") or {}),
            ),
            message=status.get("message") or "",
            replicas=workers[0].get("replicas", 1),
            min_replicas=workers[0].get("minReplicas"),
            max_replicas=workers[0].get("maxReplicas"),
            suspend=bool(spec.get("suspend")),
            **_identity(meta["name"], meta["uid"], meta.get("labels"), meta.get("annotations")),
        )

    def names(self) -> list[str] | None:
        return _names(self._cluster, self)

    def set_suspend(self, name: str, suspend: bool) -> None:
        self._cluster.call(
            _changing(name, suspend),
            self._custom.patch_namespaced_custom_object,
            *self._place,
            name,
            {**_UNMARKED, "spec": {"suspend": suspend}},
            field_manager=FIELD_MANAGER,
            _request_timeout=TIMEOUTS,
        )

    def scale(self, state: JobState, replicas: int) -> None:
        raise UserError(
            f"{state.name} is a RayJob, which has no scale subresource",
            expected="a PyTorchJob, or a release with policy.enabled, whose TrainingRun scales RayJobs too",
            fix=f"set policy.enabled and scale again; or gpt-run job suspend {state.name} --wait, "
            f"set workers.replicas to {replicas} with helm upgrade or kubectl edit, gpt-run job resume {state.name}",
        )

    def keep_replicas(self, item: dict[str, Any], state: JobState) -> None:
        """Nothing has scaled it."""

    def log_pod(self, _document: dict[str, Any] | None, pods: Sequence[Pod], /) -> tuple[Pod | None, bool]:
        """Ray brings the workers' output to the driver, and the submitter's pod prints the driver's."""
        submitters = [pod for pod in pods if pod.component == SUBMITTER]
        return max(submitters, key=lambda pod: pod.created, default=None), True


_UNMARKED = {"metadata": {"annotations": {MARK_ANNOTATION: None}}}
_BACKENDS: tuple[type[Backend], ...] = (PyTorchJob, RayJob)
KINDS = {backend.kind for backend in _BACKENDS}


def find_run(cluster: Cluster, name: str) -> tuple[Backend, JobState]:
    """The run of this name, of whatever kind. UserError if there is none."""
    found = run_of_name(cluster, name)
    if found is not None:
        return found
    backends = [kind(cluster) for kind in _BACKENDS]
    served = {backend.plural: names for backend in backends if (names := backend.names()) is not None}
    if not served:
        raise UserError(
            f"{name}: the cluster at {cluster.server} knows neither PyTorchJobs nor RayJobs",
            expected="the CustomResourceDefinitions of one of them",
            fix="; or ".join(INSTALL[backend.group].partition(", or")[0] for backend in backends),
        )
    here = sorted(one for names in served.values() for one in names)
    raise UserError(
        f"no run {name} in namespace {cluster.namespace} (looked at {', '.join(served)})",
        expected=f"one of {', '.join(here)}" if here else "a run; there is none in this namespace",
        fix="check the name, --namespace and --context, or submit it with `gpt-run job submit`",
    )


def run_of_name(cluster: Cluster, name: str) -> tuple[Backend, JobState] | None:
    """The run of this name, of whatever kind, if it is there."""
    for backend in [kind(cluster) for kind in _BACKENDS]:
        state = backend.read(name)
        if state is not None:
            return backend, state
    return None


def pytorchjob_phase(conditions: dict[str, str], *, suspend: bool, queued: bool) -> tuple[Phase, str]:
    """Of conditions that are true (type -> message), and spec: the phase and why."""
    for kind, phase in (
        (kubeflow.JOB_CONDITION_SUCCEEDED, Phase.SUCCEEDED),
        (kubeflow.JOB_CONDITION_FAILED, Phase.FAILED),
    ):
        if kind in conditions:
            return phase, conditions[kind]
    if suspend:
        return (Phase.QUEUED if queued else Phase.SUSPENDED), conditions.get("Suspended", "")
    for kind in (kubeflow.JOB_CONDITION_RUNNING, kubeflow.JOB_CONDITION_RESTARTING):
        if kind in conditions:
            return Phase.RUNNING, conditions[kind]
    return Phase.PENDING, conditions.get(kubeflow.JOB_CONDITION_CREATED, "")


def rayjob_phase(deployment: str, job: str, *, suspend: bool, queued: bool) -> Phase:
    """Of status.jobDeploymentStatus, status.jobStatus and spec."""
    if deployment in ("Complete", "Failed"):
        return Phase.SUCCEEDED if (deployment, job) == ("Complete", "SUCCEEDED") else Phase.FAILED
    if suspend:
        if deployment not in ("Suspended", ""):
            return Phase.DRAINING
        return Phase.QUEUED if queued else Phase.SUSPENDED
    return Phase.RUNNING if deployment in ("Running", "Retrying") else Phase.PENDING


def _names(cluster: Cluster, backend: Backend) -> list[str] | None:
    found = cluster.find(
        f"looking for {backend.plural}",
        client.CustomObjectsApi(cluster.api).list_namespaced_custom_object,
        backend.group,
        "v1",
        cluster.namespace,
        backend.plural,
        label_selector="gptrun.io/run",
        _request_timeout=TIMEOUTS,
    )
    return None if found is None else [str(item["metadata"]["name"]) for item in found["items"]]


def _identity(name: str, uid: str, labels: dict[str, str] | None, annotations: dict[str, str] | None) -> dict[str, Any]:
    notes = annotations or {}
    return {
        "name": name,
        "uid": uid,
        "queue": (labels or {}).get(QUEUE_LABEL),
        "run_sha256": notes.get(SHA_ANNOTATION),
        "helm_release": notes.get(HELM_ANNOTATION),
        "marked": MARK_ANNOTATION in notes,
    }


def _changing(name: str, suspend: bool) -> str:
    return f"suspending {name}" if suspend else f"resuming {name}"
