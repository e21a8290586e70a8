"""What operators, controllers and kubelets would write, written by tests: the API server behind it is real.

`StandIns` sets states of jobs and pods, makes a Service's endpoints and answers for a node's logs.
"""

from __future__ import annotations

import ssl
import threading
from collections.abc import Sequence
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from kubernetes import client

from tests.cluster.certificates import Authority

NODE = "node"


class Kubelet:
    """Serves logs of containers over HTTPS as a kubelet does; `logs` holds them, by pod and container."""

    def __init__(self, folder: Path) -> None:
        self.logs: dict[tuple[str, str], list[tuple[datetime, str]]] = {}
        self.previous: dict[tuple[str, str], list[tuple[datetime, str]]] = {}
        Authority(folder / "kubelet").server("kubelet", ["127.0.0.1"], [])
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        trust = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        trust.load_cert_chain(folder / "kubelet" / "kubelet.crt", folder / "kubelet" / "kubelet.key")
        self._server.socket = trust.wrap_socket(self._server.socket, server_side=True)
        self.port = int(self._server.server_address[1])
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        """Stop."""
        self._server.shutdown()
        self._server.server_close()

    def _text(self, path: str, query: dict[str, list[str]]) -> str | None:
        _, _, _, pod, container = path.split("/")
        logs = self.previous if query.get("previous") == ["true"] else self.logs
        if (pod, container) not in logs:
            return None
        lines = logs[pod, container]
        if "sinceTime" in query:
            since = datetime.fromisoformat(query["sinceTime"][0])
            lines = [(at, text) for at, text in lines if at >= since]
        if "tailLines" in query:
            lines = lines[len(lines) - int(query["tailLines"][0]) :]
        return "".join(f"{at:%Y-%m-%dT%H:%M:%S}.{at.microsecond:06d}000Z {text}\n" for at, text in lines)

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        kubelet = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                found = urlsplit(self.path)
                text = kubelet._text(found.path, parse_qs(found.query))
                body = (text or "").encode()
                self.send_response(404 if text is None else 200)
                self.send_header("Content-Type", "text/plain")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        return Handler


class StandIns:
    """Writes into one namespace what nobody else writes there."""

    def __init__(self, api: client.ApiClient, namespace: str) -> None:
        self.namespace = namespace
        self.core = client.CoreV1Api(api)
        self.batch = client.BatchV1Api(api)
        self.custom = client.CustomObjectsApi(api)

    def node(self, kubelet: Kubelet) -> None:
        """A node whose kubelet is ours; one for all namespaces."""
        self.core.create_node({"metadata": {"name": NODE}})
        status = {
            "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": kubelet.port}},
        }
        self.core.patch_node_status(NODE, {"status": status})

    def pytorchjob(self, name: str, *, replicas: int = 2, **metadata: Any) -> None:
        """A job as the chart would make it, as far as commands look."""
        container = {"name": "pytorch", "image": "trainer"}
        worker = {"replicas": replicas, "template": {"spec": {"containers": [container]}}}
        spec = {
            "elasticPolicy": {"minReplicas": 1, "maxReplicas": 4},
            "runPolicy": {"suspend": False},
            "pytorchReplicaSpecs": {"Worker": worker},
        }
        self._create("kubeflow.org", "pytorchjobs", "PyTorchJob", name, spec, metadata)

    def rayjob(self, name: str) -> None:
        """The same as a RayJob."""
        pod = {"spec": {"containers": [{"name": "ray", "image": "trainer"}]}}
        group = {"groupName": "worker", "replicas": 2, "minReplicas": 1, "maxReplicas": 4, "template": pod}
        cluster = {"headGroupSpec": {"template": pod}, "workerGroupSpecs": [group]}
        spec = {"entrypoint": "gpt-run ray", "shutdownAfterJobFinishes": True, "rayClusterSpec": cluster}
        self._create("ray.io", "rayjobs", "RayJob", name, spec, {})

    def conditions(self, name: str, *kinds: str, message: str = "") -> None:
        """The training operator's word on a job."""
        found = [{"type": kind, "status": "True", "reason": kind, "message": message} for kind in kinds]
        place = ("kubeflow.org", "v1", self.namespace, "pytorchjobs", name)
        status = {"conditions": found, "replicaStatuses": {}}
        self.custom.patch_namespaced_custom_object_status(*place, {"status": status})

    def pod(self, run: str, name: str, *, component: str = "worker", index: int | None = None, **labels: str) -> str:
        """A pod of a run, on the node; its uid."""
        about = {
            "app.kubernetes.io/instance": run,
            "gptrun.io/component": component,
            **({} if index is None else {"training.kubeflow.org/replica-index": str(index)}),
            **labels,
        }
        spec = {"nodeName": NODE, "containers": [{"name": "pytorch", "image": "trainer"}]}
        body = {"metadata": {"name": name, "labels": about}, "spec": spec}
        return str(self.core.create_namespaced_pod(self.namespace, body).metadata.uid)

    def container(self, name: str, *, restarts: int = 0, **state: dict[str, Any]) -> None:
        """The kubelet's word on a pod's container: running={}, waiting={...} or terminated={...}."""
        (kind,) = state
        status = {
            "name": "pytorch",
            "image": "trainer",
            "imageID": "",
            "ready": kind == "running",
            "restartCount": restarts,
            "state": state,
        }
        phase = "Running" if kind == "running" else "Pending" if kind == "waiting" else "Failed"
        body = {"status": {"phase": phase, "containerStatuses": [status]}}
        self.core.patch_namespaced_pod_status(name, self.namespace, body)

    def delete_pod(self, name: str) -> None:
        """As if its kubelet had let go of it."""
        self.core.delete_namespaced_pod(name, self.namespace, grace_period_seconds=0)

    def job_ends(self, name: str, kinds: Sequence[str]) -> None:
        """The Job controller's word: ("SuccessCriteriaMet", "Complete") or ("FailureTarget", "Failed")."""
        now = datetime.now(UTC).isoformat()
        found = [{"type": kind, "status": "True", "lastTransitionTime": now} for kind in kinds]
        status: dict[str, Any] = {"startTime": now, "conditions": found, "uncountedTerminatedPods": {}}
        if "Complete" in kinds:
            status["completionTime"] = now
        self.batch.patch_namespaced_job_status(name, self.namespace, {"status": status})

    def coordinator(self, run: str, address: str, port: int) -> None:
        """A Service as the chart makes it, its pod, and the endpoints that a controller would find."""
        http = {"name": "http", "port": 29480, "targetPort": "http"}
        name = f"{run}-coordinator"
        self.core.create_namespaced_service(self.namespace, {"metadata": {"name": name}, "spec": {"ports": [http]}})
        uid = self.pod(run, name, component="coordinator")
        self.core.patch_namespaced_pod_status(
            name, self.namespace, {"status": {"phase": "Running", "podIP": address, "podIPs": [{"ip": address}]}}
        )
        # An API server passes on to addresses of pods alone.
        target = {"kind": "Pod", "namespace": self.namespace, "name": name, "uid": uid}
        subset = {"addresses": [{"ip": address, "targetRef": target}], "ports": [{"name": "http", "port": port}]}
        body = {"metadata": {"name": name}, "subsets": [subset]}
        self.core.create_namespaced_endpoints(self.namespace, body)

    def _create(
        self, group: str, plural: str, kind: str, name: str, spec: dict[str, Any], metadata: dict[str, Any]
    ) -> None:
        about = {"name": name, **metadata}
        about["labels"] = {"gptrun.io/run": name, **metadata.get("labels", {})}
        body = {"apiVersion": f"{group}/v1", "kind": kind, "metadata": about, "spec": spec}
        self.custom.create_namespaced_custom_object(group, "v1", self.namespace, plural, body)
