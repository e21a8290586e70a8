"""What cluster tests do to a cluster, ours or another: kubectl, namespaces of their own, waiting with a reason.

A namespace refuses pods below the restricted Pod Security Standard, so every test shows that ours meet it. A wait that
ends in vain, like a test that fails, tells what is in the namespace: pods, events and the ends of logs.
"""

from __future__ import annotations

import base64
import json
import os
import re
import secrets
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from tests.cluster.machines import run
from tests.cluster.tools import ToolMissing, say, tool

T = TypeVar("T")
Object = dict[str, Any]
POLL_SECONDS = 0.5
PROGRESS_SECONDS = 15
LOG_LINES = 40


class Cluster:
    """A cluster by its kubeconfig file."""

    def __init__(self, kubeconfig: Path, cache: Path) -> None:
        self.kubeconfig = kubeconfig
        # What clients remember of an API would be wrong for the next cluster at this address.
        self._environment = f"KUBECACHEDIR={cache}"

    def kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        """Run kubectl; its output. Raises RuntimeError with what it complained about."""
        return self.run("kubectl", *arguments, stdin=stdin)

    def run(self, name: str, *arguments: str, stdin: str | None = None) -> str:
        """Run kubectl or helm on this cluster."""
        command: list[str | Path] = ["env", self._environment, program(name), "--kubeconfig", self.kubeconfig]
        return run(*command, *arguments, stdin=stdin)

    def secret(self, namespace: str, name: str) -> dict[str, str] | None:
        """The values of a Secret; None if there is none."""
        found = self.kubectl("--namespace", namespace, "get", "secret", name, "--ignore-not-found", "--output=json")
        data = json.loads(found)["data"] if found else None
        return data and {key: base64.b64decode(value).decode() for key, value in data.items()}

    def make_namespace(self, name: str) -> Namespace:
        """A new namespace whose name begins like this."""
        slug = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:40]
        namespace = Namespace(self, f"{slug}-{secrets.token_hex(3)}")
        labels = {"pod-security.kubernetes.io/enforce": "restricted"}
        metadata = {"name": namespace.name, "labels": labels}
        self.kubectl(
            "create", "--filename=-", stdin=json.dumps({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})
        )
        return namespace


class Namespace:
    """A namespace of one test."""

    def __init__(self, cluster: Cluster, name: str) -> None:
        self.cluster = cluster
        self.name = name

    def kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        """Run kubectl in the namespace."""
        return self.cluster.kubectl("--namespace", self.name, *arguments, stdin=stdin)

    def helm(self, *arguments: str, values: Object | None = None) -> str:
        """Run helm in the namespace, with values as a file would give them."""
        options = ["--namespace", self.name]
        if values is None:
            return self.cluster.run("helm", *options, *arguments)
        return self.cluster.run("helm", *options, *arguments, "--values", "-", stdin=json.dumps(values))

    def gpt_run(self, *words: str) -> tuple[list[str], dict[str, str]]:
        """Command line and environment of our own command for this namespace; it finds our helm."""
        path = f"{program('helm').parent}{os.pathsep}{os.environ['PATH']}"
        environment = {**os.environ, "KUBECONFIG": str(self.cluster.kubeconfig), "PATH": path}
        return [sys.executable, "-m", "trainer", *words, "--namespace", self.name], environment

    def apply(self, objects: Sequence[Object]) -> None:
        """Apply objects."""
        content = json.dumps({"apiVersion": "v1", "kind": "List", "items": list(objects)})
        self.kubectl("apply", "--filename=-", stdin=content)

    def get(self, kind: str, name: str) -> Object | None:
        """An object; None if there is none."""
        found = self.kubectl("get", kind, name, "--ignore-not-found", "--output=json")
        return json.loads(found) if found else None

    def objects(self, kind: str, selector: str = "") -> list[Object]:
        """Objects of a kind, those that a label selector picks."""
        items: list[Object] = json.loads(self.kubectl("get", kind, "--output=json", "--selector", selector))["items"]
        return items

    def service(self, name: str, port: str, path: str) -> str:
        """What a Service answers over HTTP, asked through the API server."""
        return self.cluster.kubectl(
            "get", "--raw", f"/api/v1/namespaces/{self.name}/services/{name}:{port}/proxy/{path}"
        )

    def wait(self, what: str, seconds: float, condition: Callable[[], T | None]) -> T:
        """Poll until there is a result, and give it; fails with the state of the namespace."""
        started = spoken = time.monotonic()
        while not (result := condition()):
            now = time.monotonic()
            assert now - started < seconds, f"no {what} within {seconds:.0f} s in {self.name}:\n{self.dump()}"
            if now - spoken > PROGRESS_SECONDS:
                spoken = now
                say(f"{self.name}: waiting for {what} since {now - started:.0f} s; {self.pods()}")
            time.sleep(POLL_SECONDS)
        return result

    def pods(self) -> str:
        """Pods and their phases on one line."""
        return ", ".join(f"{pod['metadata']['name']} {pod['status']['phase']}" for pod in self.objects("pods"))

    def dump(self) -> str:
        """Everything that explains a failure."""
        parts = [self.kubectl("get", "pytorchjobs,rayjobs,deployments,jobs,pods,services", "--output=wide")]
        parts.append(self.kubectl("get", "events", "--sort-by=.lastTimestamp"))
        for pod in self.objects("pods"):
            name = pod["metadata"]["name"]
            statuses = pod["status"].get("containerStatuses", []) + pod["status"].get("initContainerStatuses", [])
            parts.append(f"--- {name}: {json.dumps([status['state'] for status in statuses])}")
            parts.append(self.log(name, "--all-containers", f"--tail={LOG_LINES}"))
        return "\n".join(parts)

    def log(self, pod: str, *options: str) -> str:
        """`kubectl logs`; for a pod that has none, why."""
        try:
            return self.kubectl("logs", pod, *options)
        except RuntimeError as error:
            return str(error)

    def delete(self) -> None:
        """Delete it with all that is in it; does not wait."""
        self.cluster.kubectl("delete", "namespace", self.name, "--wait=false")


def program(name: str) -> Path:
    """kubectl or helm: the pinned one, else one on PATH for who has a cluster and no Go."""
    try:
        return tool(name)
    except ToolMissing:
        found = shutil.which(name)
        if found is None:
            raise
        return Path(found)
