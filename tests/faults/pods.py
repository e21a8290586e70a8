"""A run's pods on the test cluster, as a campaign sees them: states from the API server, logs and processes from nodes.

Logs are read where the kubelet has them written, in the nodes' folders on this machine, and copied as they grow:
`kubectl logs` has nothing of a pod that is gone, and is silent while the API server, the node or its network is.
Processes of containers are processes of this machine, found by their cgroup.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import Any

import psutil
from kubernetes import client, config
from kubernetes.client.exceptions import ApiException
from urllib3.exceptions import HTTPError

from tests.cluster import layout
from tests.cluster.machines import wait_until
from tests.cluster.runs import LABEL
from tests.integration.training import Process, Training

_ASK_SECONDS = 0.3
_LOOK_SECONDS = 0.03
_ANSWER_SECONDS = 3.0
# Component -> its container's name.
_CONTAINERS = {"worker": "pytorch", "coordinator": "coordinator"}


@dataclass(frozen=True)
class Pod:
    """One pod as the API server knew it last."""

    name: str
    uid: str
    component: str
    node: str
    address: str
    container: str
    """Id of the container that runs; "" if none does."""

    def members(self) -> list[psutil.Process]:
        """The processes of its container."""
        return list(members(self.container)) if self.container else []

    def first(self) -> psutil.Process | None:
        """What runs as process 1 of its container; None if nothing does."""
        return next((process for process in self.members() if _is_first(process)), None)

    def ranks(self) -> list[psutil.Process]:
        """Its workers, by the names they give themselves, in order."""
        return sorted((one for one in self.members() if _name(one).startswith("gpt-run:rank")), key=_name)


class Container:
    """One container of a pod, from its start to its end, in the place of `subprocess.Popen`."""

    def __init__(self, pods: Pods, uid: str, number: int) -> None:
        self._pods = pods
        self._key = (uid, number)

    pid = -1

    @property
    def returncode(self) -> int | None:
        """What the kubelet said; None while it runs, or if nobody heard."""
        return self._pods.codes.get(self._key)

    def poll(self) -> int | None:
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        raise NotImplementedError("nobody waits for one container: another may come in its place")

    terminate = kill = wait


class Pods:
    """Follows the pods and the job of one run, in threads of its own, until `stop`."""

    def __init__(self, namespace: str, run: str, training: Training) -> None:
        """training: gets every container as a process, with what it prints in a file of its own."""
        self.now: list[Pod] = []
        self.job: dict[str, Any] = {}
        """The job as the API server knew it last."""
        self.codes: dict[tuple[str, int], int] = {}
        """Exit codes, by uid of the pod and number of the container in it."""
        self._namespace, self._run, self._training = namespace, run, training
        self._logs: dict[Path, Log] = {}
        self._over = threading.Event()
        self._api = config.new_client_from_config(str(layout.KUBECONFIG))
        self._threads = [threading.Thread(target=each, daemon=True) for each in (self._ask_on, self._look_on)]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Look once more, and no more."""
        self._over.set()
        for thread in self._threads:
            thread.join()
        for log in self._logs.values():
            log.close()
        self._api.close()

    @property
    def uids(self) -> set[str]:
        """Of all pods that have printed anything."""
        return {log.uid for log in self._logs.values()}

    def of(self, component: str) -> list[Pod]:
        """The pods of a component that run, by name."""
        return sorted(
            (pod for pod in self.now if pod.component == component and pod.container), key=lambda pod: pod.name
        )

    def phase(self) -> str:
        """What /status says, asked through the API server; "" if nobody answers."""
        path = f"/api/v1/namespaces/{self._namespace}/services/{self._run}-coordinator:http/proxy/status"
        try:
            found, _, _ = self._api.call_api(
                path, "GET", response_type="object", auth_settings=["BearerToken"], _request_timeout=_ANSWER_SECONDS
            )
        except (ApiException, HTTPError, OSError):
            return ""
        return str(found.get("phase", "")) if isinstance(found, dict) else ""

    def _ask_on(self) -> None:
        core, custom = client.CoreV1Api(self._api), client.CustomObjectsApi(self._api)
        job = ("kubeflow.org", "v1", self._namespace, "pytorchjobs", self._run)
        while not self._over.wait(_ASK_SECONDS):
            with contextlib.suppress(ApiException, HTTPError, OSError):
                found = core.list_namespaced_pod(
                    self._namespace,
                    label_selector=f"{LABEL} in (worker, coordinator)",
                    _request_timeout=_ANSWER_SECONDS,
                )
                self.now = [self._take(pod) for pod in found.items]
                self.job = custom.get_namespaced_custom_object(*job, _request_timeout=_ANSWER_SECONDS)

    def _take(self, pod: client.V1Pod) -> Pod:
        running = ""
        for status in pod.status.container_statuses or ():
            if status.state.terminated is not None:
                self.codes[pod.metadata.uid, status.restart_count] = status.state.terminated.exit_code
            if status.last_state.terminated is not None:
                self.codes[pod.metadata.uid, status.restart_count - 1] = status.last_state.terminated.exit_code
            if status.state.running is not None:
                running = (status.container_id or "").removeprefix("containerd://")
        return Pod(
            name=pod.metadata.name,
            uid=pod.metadata.uid,
            component=pod.metadata.labels[LABEL],
            node=pod.spec.node_name or "",
            address=pod.status.pod_ip or "",
            container=running,
        )

    def _look_on(self) -> None:
        over = False
        while not over:
            over = self._over.wait(_LOOK_SECONDS)
            for path in self._paths():
                if path not in self._logs:
                    with contextlib.suppress(FileNotFoundError):
                        self._logs[path] = self._follow(path)
            for log in self._logs.values():
                log.copy()

    def _paths(self) -> Iterator[Path]:
        for node in layout.NODES:
            folder = layout.STATE / node / "fixed" / "var" / "log" / "pods"
            for name in _CONTAINERS.values():
                yield from folder.glob(f"{self._namespace}_*/{name}/*.log")

    def _follow(self, path: Path) -> Log:
        _, pod, uid = path.parents[1].name.split("_")
        number = int(path.stem)
        output = self._training.folder / f"{pod}-{uid[:8]}-{number}.txt"
        log = Log(path, output, uid)
        self._training.processes.append(Process(Container(self, uid, number), output, self._training.wait_seconds))
        return log


class Log:
    """A container's log, copied without what the kubelet writes before each line. Held open, it outlives its pod."""

    def __init__(self, path: Path, output: Path, uid: str) -> None:
        self.uid = uid
        self._from: BufferedReader = path.open("rb")
        self._to = output.open("wb", buffering=0)
        self._rest = b""

    def copy(self) -> None:
        lines = (self._rest + self._from.read()).split(b"\n")
        self._rest = lines.pop()
        # `TIME stdout F TEXT`; P instead of F: the line goes on.
        parts = [line.split(b" ", 3) for line in lines]
        if text := b"".join(part[3] + (b"\n" if part[2] == b"F" else b"") for part in parts if len(part) == 4):
            self._to.write(text)

    def close(self) -> None:
        self._from.close()
        self._to.close()


def members(group: str) -> Iterator[psutil.Process]:
    """Processes of this machine in a cgroup with this text in its path: the id of a container, the uid of a pod."""
    for pid in psutil.pids():
        with contextlib.suppress(OSError, psutil.NoSuchProcess):
            if group in Path(f"/proc/{pid}/cgroup").read_text():
                yield psutil.Process(pid)


def wait_quietly(condition: Callable[[], object], seconds: float) -> bool:
    """Poll a condition; whether it came true in time."""
    try:
        wait_until(condition, seconds, "did not come true")
    except TimeoutError:
        return False
    return True


def _is_first(process: psutil.Process) -> bool:
    with contextlib.suppress(OSError, StopIteration):
        lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
        return next(line for line in lines if line.startswith("NSpid:")).split()[-1] == "1"
    return False


def _name(process: psutil.Process) -> str:
    try:
        return process.name()
    except psutil.NoSuchProcess:
        return ""
