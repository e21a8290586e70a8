"""A control plane on this machine for the operator: API server with an audit log, scheduler, training operator, KWOK.

Nodes and pods only pretend; everything that the operator reads and writes is real. `Plane` starts it all as processes,
can take the API server away and bring it back, and starts operators as `python -m operators` with the rights of
`RIGHTS` and no more. Tests and benchmarks use it; what a coordinator says comes from tests/cluster/desks.py.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from kubernetes import client, config

from operators import crd
from tests.cluster import desks
from tests.cluster.api_server import ADMIN, ApiServer, command, crd_files, etcd, prepare, wait_until_ready
from tests.cluster.kwok import ANNOTATION, STAGES, gpu_node
from tests.cluster.tools import ADDONS, KUBERAY, module_folder, tool
from tests.integration.servers import free_port

USER = "operator"
NAMESPACE = "runs"
# Where charts/gpt-platform would lie, and its operators' accounts.
SYSTEM = "gpt-run-system"
ROOT = Path(__file__).parents[2]
# Fixed in the training operator.
_WEBHOOK_CERTIFICATES = Path("/tmp/k8s-webhook-server/serving-certs")
_WEBHOOK_SECRET, _WEBHOOK_CONFIG = "training-operator-webhook-cert", "validator.training-operator.kubeflow.org"
# As in its image, which has no `kubernetes`: kopf would load it.
_OPERATOR = "import runpy, sys; sys.modules['kubernetes'] = None; runpy.run_module('operators', run_name='__main__')"
_READ = ["get", "list", "watch"]
RIGHTS = [
    {"apiGroups": [""], "resources": ["pods"], "verbs": [*_READ, "delete"]},
    {"apiGroups": [""], "resources": ["nodes"], "verbs": _READ},
    {"apiGroups": [""], "resources": ["events"], "verbs": ["create", "patch"]},
    {"apiGroups": ["kubeflow.org"], "resources": ["pytorchjobs"], "verbs": [*_READ, "patch", "delete"]},
    {"apiGroups": ["ray.io"], "resources": ["rayjobs"], "verbs": [*_READ, "patch", "delete"]},
    {"apiGroups": ["ray.io"], "resources": ["rayclusters"], "verbs": ["patch"]},
    {"apiGroups": ["gptrun.io"], "resources": ["trainingruns"], "verbs": _READ},
    {"apiGroups": ["gptrun.io"], "resources": ["trainingruns/status"], "verbs": ["patch"]},
    {"apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": ["get", "create", "patch"]},
]
AUDIT = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived"],
    "rules": [
        {"level": "Request", "users": [USER], "verbs": ["create", "patch", "update", "delete"]},
        {"level": "Metadata", "users": [USER]},
        {"level": "Metadata", "userGroups": [f"system:serviceaccounts:{SYSTEM}"]},
        {"level": "None"},
    ],
}


@dataclass
class Process:
    """One that was started here."""

    popen: subprocess.Popen[bytes]
    log: Path
    port: int = 0

    def end(self, number: int = signal.SIGTERM, seconds: float = 20) -> None:
        """Send a signal and wait for the end."""
        if self.popen.poll() is None:
            self.popen.send_signal(number)
            try:
                self.popen.wait(seconds)
            except subprocess.TimeoutExpired:
                self.popen.kill()
                self.popen.wait()

    def said(self) -> str:
        """The end of its log."""
        return self.log.read_text(errors="replace")[-3000:]

    def lines(self) -> list[dict[str, Any]]:
        """What it logged, of JSON lines."""
        found = []
        for line in self.log.read_text(errors="replace").splitlines():
            with contextlib.suppress(ValueError):
                found.append(json.loads(line))
        return found


@dataclass
class Plane:
    """The running control plane."""

    folder: Path
    etcd_url: str
    server: ApiServer
    desk_port: int
    processes: dict[str, Process] = field(default_factory=dict)
    count: int = 0

    @property
    def audit(self) -> Path:
        """Its audit log: the operator's requests, a JSON object a line."""
        return self.server.folder / "audit.log"

    def api(self) -> client.ApiClient:
        """A client of the administrator's."""
        made = config.new_client_from_config(str(self.server.kubeconfig()))
        made.rest_client.pool_manager.connection_pool_kw["maxsize"] = 8
        return made

    def start(self, name: str, words: list[str], environment: dict[str, str] | None = None) -> Process:
        """Start a process; it ends with the plane."""
        log = self.folder / f"{name}.log"
        with log.open("ab") as output:
            popen = subprocess.Popen(
                words, stdout=output, stderr=output, env=os.environ | (environment or {}), cwd=ROOT
            )
        self.processes[name] = Process(popen, log)
        return self.processes[name]

    def start_api_server(self) -> None:
        """Start it, or start it again at the place of the one before."""
        folder = self.server.folder
        policy = folder / "audit.yaml"
        policy.write_text(yaml.safe_dump(AUDIT))
        more = [
            f"--audit-policy-file={policy}",
            f"--audit-log-path={self.audit}",
            "--audit-log-mode=blocking",
            "--audit-log-maxsize=2000",
            # All controllers here are one user; fairness would make them wait for each other.
            "--enable-priority-and-fairness=false",
            "--max-requests-inflight=2000",
            # No controller would take the taint away again that this puts on new nodes.
            "--disable-admission-plugins=TaintNodesByCondition",
        ]
        port = int(self.server.url.rpartition(":")[2])
        self.start("kube-apiserver", command(folder, self.etcd_url, port, *more))
        wait_until(lambda: ready(self.server), 90, "the API server is not ready")

    def stop_api_server(self) -> None:
        """Take it away."""
        self.processes.pop("kube-apiserver").end()

    def start_operator(self, name: str, *words: str, kubeconfig: Path | None = None) -> Process:
        """Another operator; kubeconfig: of another user than USER."""
        self.count += 1
        port = free_port()
        arguments = [
            f"--identity={name}",
            f"--metrics-port={port}",
            "--lease-namespace=default",
            f"--coordinator-url=http://127.0.0.1:{self.desk_port}/{{namespace}}/{{name}}/status",
            *words,
        ]
        environment = {"KUBECONFIG": str(kubeconfig or self.server.kubeconfig(USER)), "PYTHONPATH": str(ROOT)}
        process = self.start(f"{name}-{self.count}", [sys.executable, "-c", _OPERATOR, *arguments], environment)
        process.port = port
        return process

    def token_kubeconfig(self, account: str) -> Path:
        """Of a service account in SYSTEM, by a token as its pods get one."""
        spec = {"spec": {"audiences": [], "expirationSeconds": 3600}}
        core = client.CoreV1Api(self.api())
        token = core.create_namespaced_service_account_token(account, SYSTEM, spec).status.token
        content = json.loads(self.server.kubeconfig().read_text())
        content["users"] = [{"name": ADMIN, "user": {"token": token}}]
        path = self.folder / f"{account}.kubeconfig"
        path.write_text(json.dumps(content))
        return path

    def say(self, name: str, **fields: Any) -> None:
        """Change what a run's coordinator says."""
        desks.put(self.desk_port, NAMESPACE, name, **fields)

    def add_nodes(self, *names: str, gpus: int = 8) -> None:
        """Nodes that pretend."""
        core = client.CoreV1Api(self.api())
        for name in names:
            core.create_node(gpu_node(name, {}, gpus))

    def actions(self) -> list[dict[str, Any]]:
        """What operators did to anything but statuses, Events and Leases, and was taken."""
        found = []
        for line in self.audit.read_text().splitlines():
            with contextlib.suppress(ValueError):  # a line that is being written
                entry = json.loads(line)
                about = entry.get("objectRef") or {"resource": ""}
                if (
                    entry["verb"] in ("patch", "delete")
                    and entry["responseStatus"]["code"] < 300
                    and about["resource"] not in ("events", "leases")
                    and about.get("subresource") != "status"
                ):
                    found.append(entry)
        return found


def service_account(name: str) -> str:
    """The user that a service account in SYSTEM is."""
    return f"system:serviceaccount:{SYSTEM}:{name}"


def ready(server: ApiServer) -> bool:
    """Whether it can be used."""
    try:
        wait_until_ready(server)
    except RuntimeError:
        return False
    return True


def wait_until(found: Callable[[], Any], seconds: float, complaint: str | Callable[[], str]) -> Any:
    """What `found` returns once it is true."""
    deadline = time.monotonic() + seconds
    while not (result := found()):
        assert time.monotonic() < deadline, complaint if isinstance(complaint, str) else complaint()
        time.sleep(0.1)
    return result


@contextlib.contextmanager
def plane(folder: Path, *, training_operator: bool = True) -> Iterator[Plane]:
    """Everything, as processes on free ports of the loopback interface; without operators. ToolMissing where it cannot
    be had."""
    for name in ("etcd", "kube-apiserver", "kube-scheduler", "kwok", "training-operator"):
        tool(name)
    server = ApiServer(f"https://127.0.0.1:{free_port()}", folder / "operator-plane")
    prepare(server.folder, USER)
    with etcd(folder) as url:
        made = Plane(folder, url, server, free_port())
        try:
            made.start("desks", [sys.executable, "-m", "tests.cluster.desks", str(made.desk_port)])
            made.start_api_server()
            _install(made)
            _start_scheduler(made)
            _start_kwok(made)
            if training_operator:
                _start_training_operator(made)
            yield made
        finally:
            for process in reversed(made.processes.values()):
                process.end()


def _install(made: Plane) -> None:
    api = made.api()
    extensions = client.ApiextensionsV1Api(api)
    files = [*crd_files(), _ray_clusters()]
    for definition in (*(yaml.safe_load(file.read_text()) for file in files), crd.document()):
        extensions.create_custom_resource_definition(definition)
        name = definition["metadata"]["name"]
        wait_until(
            lambda: any(
                one.type == "Established" and one.status == "True"
                for one in extensions.read_custom_resource_definition(name).status.conditions or ()  # noqa: B023
            ),
            30,
            f"{name} is not served",
        )
    core, rights = client.CoreV1Api(api), client.RbacAuthorizationV1Api(api)
    for namespace in (NAMESPACE, SYSTEM, "kubeflow", "elsewhere"):
        core.create_namespace({"metadata": {"name": namespace}})
    rights.create_cluster_role({"metadata": {"name": USER}, "rules": RIGHTS})
    rights.create_cluster_role_binding(
        {
            "metadata": {"name": USER},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": USER},
            "subjects": [{"kind": "User", "name": USER, "apiGroup": "rbac.authorization.k8s.io"}],
        }
    )
    core.create_namespaced_secret("kubeflow", {"metadata": {"name": _WEBHOOK_SECRET}})
    webhooks = {"metadata": {"name": _WEBHOOK_CONFIG}, "webhooks": []}
    client.AdmissionregistrationV1Api(api).create_validating_webhook_configuration(webhooks)


def _ray_clusters() -> Path:
    return module_folder(KUBERAY, "github.com/ray-project/kuberay/ray-operator") / (
        "config/crd/bases/ray.io_rayclusters.yaml"
    )


def _start_scheduler(made: Plane) -> None:
    settings = {
        "apiVersion": "kubescheduler.config.k8s.io/v1",
        "kind": "KubeSchedulerConfiguration",
        "clientConnection": {"kubeconfig": str(made.server.kubeconfig()), "qps": 500, "burst": 1000},
        "leaderElection": {"leaderElect": False},
    }
    file = made.folder / "scheduler.yaml"
    file.write_text(yaml.safe_dump(settings))
    made.start(
        "kube-scheduler",
        [str(tool("kube-scheduler")), f"--config={file}", "--bind-address=127.0.0.1", f"--secure-port={free_port()}"],
    )


def _start_kwok(made: Plane) -> None:
    stages = module_folder(ADDONS, "sigs.k8s.io/kwok") / "kustomize" / "stage"
    arguments = [
        f"--kubeconfig={made.server.kubeconfig()}",
        "--manage-all-nodes=false",
        f"--manage-nodes-with-annotation-selector={ANNOTATION}=fake",
        "--node-lease-duration-seconds=200",
        f"--server-address=127.0.0.1:{free_port()}",
        *[f"--config={stages / stage}" for stage in STAGES],
    ]
    made.start("kwok", [str(tool("kwok")), *arguments])


def _start_training_operator(made: Plane) -> None:
    arguments = [
        f"--kubeconfig={made.server.kubeconfig(ADMIN)}",
        "--enable-scheme=pytorchjob",
        f"--metrics-bind-address=127.0.0.1:{free_port()}",
        f"--health-probe-bind-address=127.0.0.1:{free_port()}",
        f"--webhook-server-port={free_port()}",
        "--kube-api-qps=300",
        "--kube-api-burst=600",
        "--controller-threads=4",
        "--zap-log-level=error",
    ]
    made.start("training-operator", [str(tool("training-operator")), *arguments])
    core = client.CoreV1Api(made.api())

    def certificates() -> dict[str, str]:
        found: dict[str, str] = core.read_namespaced_secret(_WEBHOOK_SECRET, "kubeflow").data or {}
        return found

    found = wait_until(certificates, 60, "the training operator makes no certificates")
    # What a kubelet would do with the secret's volume.
    _WEBHOOK_CERTIFICATES.mkdir(parents=True, exist_ok=True)
    for name, content in found.items():
        (_WEBHOOK_CERTIFICATES / name).write_bytes(base64.b64decode(content))


# Objects --------------------------------------------------------------------------------------------------------------


def pytorchjob(name: str, replicas: int = 2, *, gpus: int = 1, **labels: str) -> dict[str, Any]:
    """A job whose pods land on the nodes that pretend."""
    container = {"name": "pytorch", "image": "trainer", "resources": {"limits": {"nvidia.com/gpu": gpus}}}
    pod = {
        "containers": [container],
        "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists"}],
        "terminationGracePeriodSeconds": 5,
    }
    worker = {"replicas": replicas, "restartPolicy": "OnFailure", "template": {"spec": pod}}
    spec = {
        "elasticPolicy": {"minReplicas": 1, "maxReplicas": 8, "rdzvBackend": "c10d"},
        "runPolicy": {"suspend": False, "cleanPodPolicy": "Running"},
        "pytorchReplicaSpecs": {"Worker": worker},
    }
    metadata = {"name": name, "labels": {"gptrun.io/run": name, **labels}}
    return {"apiVersion": "kubeflow.org/v1", "kind": "PyTorchJob", "metadata": metadata, "spec": spec}


def rayjob(name: str, replicas: int = 2) -> dict[str, Any]:
    """A RayJob; no KubeRay follows it."""
    pod = {"spec": {"containers": [{"name": "ray-worker", "image": "trainer"}]}}
    group = {
        "groupName": "worker",
        "replicas": replicas,
        "minReplicas": 1,
        "maxReplicas": 8,
        "rayStartParams": {},
        "template": pod,
    }
    head = {"rayStartParams": {}, "template": {"spec": {"containers": [{"name": "ray-head", "image": "trainer"}]}}}
    cluster = {"headGroupSpec": head, "workerGroupSpecs": [group]}
    spec = {"entrypoint": "gpt-run ray", "shutdownAfterJobFinishes": True, "rayClusterSpec": cluster}
    return {"apiVersion": "ray.io/v1", "kind": "RayJob", "metadata": {"name": name}, "spec": spec}


def training_run(name: str, *, kind: str = "PyTorchJob", job: str | None = None, **spec: Any) -> dict[str, Any]:
    """A TrainingRun of that job, of 1 to 4 workers."""
    api_version = "kubeflow.org/v1" if kind == "PyTorchJob" else "ray.io/v1"
    reference = {"apiVersion": api_version, "kind": kind, "name": job or name}
    content = {"jobRef": reference, "elastic": {"min": 1, "max": 4}, **spec}
    return {
        "apiVersion": "gptrun.io/v1alpha1",
        "kind": "TrainingRun",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": content,
    }
