"""Put what the chart rendered on the cluster, by server-side apply: `gpt-run job submit`.

Everything is tried as a dry run before the first object is made, then hooks run, then objects are applied. In the end
the job owns all other objects but the TrainingRun, so deleting it removes the run.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kubernetes import client
from kubernetes.dynamic import DynamicClient

from trainer.errors import UserError
from trainer.jobs.backends import KINDS, SHA_ANNOTATION, run_of_name
from trainer.jobs.cluster import FIELD_MANAGER, TIMEOUTS, Cluster
from trainer.jobs.render import Rendered
from trainer.jobs.state import JobState, complaints_of, ends_of

_LOOK_SECONDS = 1.0
_SECONDS_AFTER_DELETE = 60.0


@dataclass(frozen=True)
class Applied:
    """One object on the cluster."""

    api_version: str
    kind: str
    name: str
    change: str
    """created, configured or unchanged."""


def submit(cluster: Cluster, name: str, rendered: Rendered, say: Callable[[str], None]) -> list[Applied]:
    """Apply a release. UserError if the name is taken, a hook fails, or the API server refuses an object."""
    job = job_of(rendered.objects)
    found = run_of_name(cluster, name)
    before = None
    if found is not None:
        backend, before = found
        refuse_another(before, job)
        backend.keep_replicas(job, before)
    with tempfile.TemporaryDirectory(prefix="gpt-run-") as folder:
        # The client's own place for this is a file that all users of the machine share.
        dynamic = cluster.call(
            "asking what the cluster serves", DynamicClient, cluster.api, Path(folder) / "kinds.json"
        )
        objects = _Objects(cluster, dynamic)
        for item in [*rendered.before, *rendered.objects]:
            objects.try_out(item)
        if before is None:
            _run_hooks(cluster, objects, rendered.before, say)
        applied = []
        uid = before.uid if before is not None else None
        notes = cut_short(rendered.objects, job)
        if before is None:
            notes += [line for item in rendered.objects for line in objects.earlier_wishes(item)]
        for line in notes:
            say(line)
        for item in rendered.objects:
            applied.append(objects.apply(item if item is job else owned(item, job, uid)))
            say(f"{applied[-1].kind}/{applied[-1].name} {applied[-1].change}")
        if uid is None:  # the job came last, because its pods need the others
            uid = objects.uid_of(job)
            for item in rendered.objects:
                if item is not job:
                    objects.apply(owned(item, job, uid))
    return applied


def job_of(objects: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The one object that is the run itself."""
    found = [item for item in objects if item["kind"] in KINDS]
    if len(found) != 1:
        kinds = ", ".join(item["kind"] for item in objects) or "nothing"
        raise UserError(
            f"the chart renders {kinds}", expected=f"one {' or '.join(sorted(KINDS))}", fix="name this project's chart"
        )
    return found[0]


def refuse_another(before: JobState, job: dict[str, Any]) -> None:
    """UserError unless the run that is there is the one that is submitted, and can still go on."""
    name = before.name
    if before.helm_release is not None:
        raise UserError(
            f"{name} is there, installed by helm (release {before.helm_release})",
            expected="a name that is free, or a run that was submitted",
            fix=f"change it with helm upgrade {before.helm_release}, or submit under another name",
        )
    remove = f"kubectl delete {before.kind.lower()}/{name}"
    if before.kind != job["kind"] or before.run_sha256 != job["metadata"].get("annotations", {}).get(SHA_ANNOTATION):
        raise UserError(
            f"{name} is there ({before.kind}, {before.phase}) with another run file",
            expected="a name that is free, or the same run",
            fix=f"submit under another name, or remove that one ({remove}); checkpoints stay in the store",
        )
    if before.over:
        raise UserError(
            f"{name} is there and over: {before.phase}",
            expected="a run that is not over",
            fix=f"remove it ({remove}; checkpoints stay in the store), then submit it again",
        )


def owned(item: dict[str, Any], job: dict[str, Any], uid: str | None) -> dict[str, Any]:
    """The object with the job as its owner, so that it goes when the job goes; as it is while there is no job yet.

    A TrainingRun is the record of a job that may be deleted by itself once it is over: it stays.
    """
    if uid is None or item["kind"] == "TrainingRun":
        return item
    owner = {"apiVersion": job["apiVersion"], "kind": job["kind"], "name": job["metadata"]["name"], "uid": uid}
    return {**item, "metadata": {**item["metadata"], "ownerReferences": [owner]}}


def cut_short(objects: Sequence[dict[str, Any]], job: dict[str, Any]) -> list[str]:
    """What begins when the run is over, and goes with a job that is then deleted by itself; a line for each."""
    # KubeRay's own limit ends the cluster, and leaves the RayJob.
    limits = [job["spec"].get("runPolicy", {}).get("ttlSecondsAfterFinished")]
    limits += [
        item["spec"].get("completion", {}).get("deleteAfterSeconds")
        for item in objects
        if item["kind"] == "TrainingRun"
    ]
    seconds = min((limit for limit in limits if limit is not None), default=None)
    if seconds is None:
        return []
    name = f"{job['kind']}/{job['metadata']['name']}"
    return [
        f"Job/{item['metadata']['name']} has {seconds} s: {name} owns it, and is deleted so long after its end"
        for item in objects
        if item["kind"] == "Job"
    ]


class _Objects:
    """Any kind of object, by the dynamic client."""

    def __init__(self, cluster: Cluster, dynamic: DynamicClient) -> None:
        self._cluster = cluster
        self._dynamic = dynamic

    def try_out(self, item: dict[str, Any]) -> None:
        """Have the API server say whether it would take a new object, and why not."""
        if self._read(item) is None:
            self._apply(item, dry_run="All")

    def apply(self, item: dict[str, Any]) -> Applied:
        """Apply one object."""
        kind, name = item["kind"], item["metadata"]["name"]
        before = self._read(item)
        found = self._apply(item)
        if before is None:
            change = "created"
        else:
            same = before.metadata.resourceVersion == found.metadata.resourceVersion
            change = "unchanged" if same else "configured"
        return Applied(item["apiVersion"], kind, name, change)

    def delete(self, item: dict[str, Any]) -> None:
        """Delete one object and what it owns, and wait until it is gone."""
        if self._read(item) is None:
            return
        name = item["metadata"]["name"]
        self._cluster.find(
            f"removing {item['kind']} {name}",
            self._resource(item).delete,
            name=name,
            namespace=self._namespace(item),
            # Else a Job's pods would stay.
            body={"propagationPolicy": "Background"},
            _request_timeout=TIMEOUTS,
        )
        deadline = time.monotonic() + _SECONDS_AFTER_DELETE
        while self._read(item) is not None and time.monotonic() < deadline:
            time.sleep(_LOOK_SECONDS)

    def earlier_wishes(self, item: dict[str, Any]) -> list[str]:
        """What people asked of the TrainingRun of an earlier job, and it will ask of the new one; a line for each."""
        found = self._read(item) if item["kind"] == "TrainingRun" else None
        if found is None:
            return []
        name, spec = item["metadata"]["name"], found.to_dict()["spec"]
        changed_by = {"replicas": f"gpt-run job scale {name} N", "suspend": f"gpt-run job resume {name}"}
        return [
            f"TrainingRun/{name} is left of an earlier job: spec.{field} is {str(spec[field]).lower()} for this one too"
            f" ({command} changes it)"
            for field, command in changed_by.items()
            if spec.get(field) not in (None, False)
        ]

    def uid_of(self, item: dict[str, Any]) -> str:
        """Of an object that has been applied."""
        return str(self._read(item).metadata.uid)

    def _apply(self, item: dict[str, Any], **options: str) -> Any:
        return self._cluster.call(
            f"{item['kind']} {item['metadata']['name']}",
            self._resource(item).server_side_apply,
            body=item,
            namespace=self._namespace(item),
            field_manager=FIELD_MANAGER,
            _request_timeout=TIMEOUTS,
            **options,
        )

    def _read(self, item: dict[str, Any]) -> Any:
        kind, name = item["kind"], item["metadata"]["name"]
        return self._cluster.find(
            f"looking for {kind} {name}",
            self._resource(item).get,
            name=name,
            namespace=self._namespace(item),
            _request_timeout=TIMEOUTS,
        )

    def _resource(self, item: dict[str, Any]) -> Any:
        return self._cluster.call(
            f"{item['kind']} {item['metadata']['name']}",
            self._dynamic.resources.get,
            api_version=item["apiVersion"],
            kind=item["kind"],
        )

    def _namespace(self, item: dict[str, Any]) -> str:
        return str(item["metadata"].get("namespace") or self._cluster.namespace)


def _run_hooks(
    cluster: Cluster, objects: _Objects, hooks: Sequence[dict[str, Any]], say: Callable[[str], None]
) -> None:
    """As helm does: one after the other, each Job to its end, and away with them if all went well."""
    for hook in hooks:
        objects.delete(hook)
        objects.apply(hook)
        if hook["kind"] == "Job":
            _wait_for_job(cluster, hook["metadata"]["name"], say)
    for hook in reversed(hooks):
        objects.delete(hook)


def _wait_for_job(cluster: Cluster, name: str, say: Callable[[str], None]) -> None:
    """UserError if the Job fails: nothing of the run has been made then."""
    batch = client.BatchV1Api(cluster.api)
    say(f"Job/{name} runs")
    told: set[tuple[str, ...]] = set()
    while True:
        found = cluster.call(
            f"waiting for Job {name}", batch.read_namespaced_job, name, cluster.namespace, _request_timeout=TIMEOUTS
        )
        pods = cluster.pods_of(f"batch.kubernetes.io/job-name={name}")
        for about, line in complaints_of(pods).items():
            if about not in told:
                told.add(about)
                say(line)
        for condition in found.status.conditions or []:
            if condition.status == "True" and condition.type == "Complete":
                say(f"Job/{name} is done")
                return
            if condition.status == "True" and condition.type == "Failed":
                reasons = "; ".join(ends_of(pods)) or condition.message or condition.reason
                raise UserError(
                    f"Job {name} failed, and nothing else was made: {reasons}",
                    expected="a job that ends well before GPUs are taken",
                    fix=f"correct what it says; all of it: kubectl logs --namespace {cluster.namespace} job/{name}",
                )
        time.sleep(_LOOK_SECONDS)
