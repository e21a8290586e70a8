"""Pods that try: what the policies of both charts let through, on nodes that enforce them, and what else is open there.

Tried first without a firewall, so that a port that nobody could reach anyway shows nothing.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.cluster import layout
from tests.cluster.client import Cluster, Namespace, Object
from tests.cluster.conftest import MakeRun
from tests.cluster.machines import Machine
from tests.cluster.platform import POLICY, Platform, status
from tests.cluster.policies import enforced
from tests.cluster.runs import LABEL, LONG, SAVED, WAIT_SECONDS, Run
from tests.cluster.tools import tool

# Address and port.
Door = tuple[str, int]
STATUS_PORT = 29480
S3_DOOR = (layout.CONTROL, layout.S3_PORT)
FIREWALL_SECONDS = 60
OF_THE_RUN = {"app.kubernetes.io/instance": "demo"}
LISTENING, LOOPBACK = "0A", ("0100007F", "00000000000000000000000001000000")
TRY = """
import json, socket, sys
def opens(door):
    try:
        socket.create_connection(door, timeout=2).close()
    except OSError:
        return False
    return True
print(json.dumps([door for door in json.loads(sys.argv[1]) if opens(door)]))
"""


@pytest.fixture
def nodes(cluster: Cluster, machines: dict[str, Machine]) -> list[Machine]:
    """Those whose firewall is ours."""
    tool("kube-router")
    return [machines[name] for name in layout.NODES]


@pytest.fixture
def elsewhere(cluster: Cluster) -> Iterator[Namespace]:
    """Another namespace of the same cluster."""
    made = cluster.make_namespace("elsewhere")
    yield made
    made.delete()


def test_a_stranger_reaches_the_status_of_a_run_and_nothing_else(
    make_run: MakeRun, elsewhere: Namespace, description: dict[str, str], nodes: list[Machine]
) -> None:
    run = make_run(run=SAVED)
    run.wait_for_attempt(1, size=2)
    here = run.namespace
    visitors = [Visitor(here, "neighbour"), Visitor(elsewhere, "stranger"), Visitor(elsewhere, "impostor", OF_THE_RUN)]
    member = Visitor(here, "member", OF_THE_RUN)
    for visitor in [*visitors, member]:
        visitor.start(description["image"])

    doors = open_doors(run)
    assert {port for _, port in doors} > {STATUS_PORT, 29400}
    for visitor in visitors:
        assert visitor.opens(doors) == doors, f"{visitor.name}, without a firewall"
    with enforced(nodes):
        here.wait("firewall", FIREWALL_SECONDS, lambda: visitors[0].opens(doors) != doors)
        for visitor in visitors:
            assert visitor.opens(doors) == [door for door in doors if door[1] == STATUS_PORT], visitor.name
        assert member.opens(doors) == doors
        # `gpt-run status` comes from the API server, which is no pod: it has to be named.
        assert run.status() == {}
        peers = [{"namespaceSelector": {}}, {"ipBlock": {"cidr": f"{layout.CONTROL}/32"}}]
        run.upgrade("--set-json", f"network.policy.from={json.dumps(peers)}")
        # Every way that the run itself needs is open: to begin as well as to go on.
        run.wait_for_step(run.told("step") + 20)
        attempt = run.attempt()
        here.kubectl("delete", "pod", "demo-worker-0", "--force", "--grace-period=0")
        run.wait_for_attempt(attempt + 1, size=2)
        doors = open_doors(run)
        assert visitors[0].opens(doors) == [door for door in doors if door[1] == STATUS_PORT]
    assert visitors[0].opens(doors) == doors


def test_the_operator_reaches_what_it_asks_and_nothing_else(
    platform: Platform, make_run: MakeRun, description: dict[str, str], nodes: list[Machine]
) -> None:
    run = make_run(run=LONG, policy=POLICY)
    run.wait_for_attempt(1, size=2)
    doors = open_doors(run)
    pod = platform.namespace.objects("pods", "gptrun.io/component=operator")[0]  # one leads, both are let through
    operator = Visitor(platform.namespace, pod["metadata"]["name"])
    neighbour = Visitor(run.namespace, "neighbour")
    neighbour.start(description["image"])
    metrics = (pod["status"]["podIP"], 9090)
    wanted = [(layout.CONTROL, layout.API_PORT), *(door for door in doors if door[1] == STATUS_PORT)]
    others = [S3_DOOR, *(door for door in doors if door[1] != STATUS_PORT)]
    assert operator.opens([*wanted, *others]) == [*wanted, *others]
    with enforced(nodes):
        run.namespace.wait("firewall", FIREWALL_SECONDS, lambda: not operator.opens([S3_DOOR]))
        assert operator.opens([*wanted, *others]) == wanted
        assert neighbour.opens([metrics]) == [metrics]
        before = reported_step(run)
        run.namespace.wait("word of the operator", WAIT_SECONDS, lambda: reported_step(run) > before)


class Visitor:
    """A pod that tries doors."""

    def __init__(self, namespace: Namespace, name: str, labels: dict[str, str] | None = None) -> None:
        self.name = name
        self._namespace = namespace
        self._labels = labels or {}

    def start(self, image: str) -> None:
        """Make the pod and wait until it runs."""
        container = {
            "name": "visitor",
            "image": image,
            "command": ["sleep", "infinity"],
            "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
        }
        spec = {
            "terminationGracePeriodSeconds": 0,
            "automountServiceAccountToken": False,
            "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [container],
        }
        metadata = {"name": self.name, "labels": self._labels}
        self._namespace.apply([{"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}])
        self._namespace.wait(self.name, WAIT_SECONDS, lambda: self._pod()["status"]["phase"] == "Running")

    def opens(self, doors: list[Door]) -> list[Door]:
        """Those of the doors that take a connection of it."""
        found = self._namespace.kubectl("exec", self.name, "--", "python3", "-c", TRY, json.dumps(doors))
        return [(address, port) for address, port in json.loads(found)]

    def _pod(self) -> Object:
        pod = self._namespace.get("pod", self.name)
        assert pod is not None
        return pod


def open_doors(run: Run) -> list[Door]:
    """Every port on which a pod of the run listens for others, as its kernel says."""
    doors = set()
    for pod in run.namespace.objects("pods", f"{LABEL} in (worker, coordinator)"):
        name, address = pod["metadata"]["name"], pod["status"]["podIP"]
        table = run.namespace.kubectl("exec", name, "--", "cat", "/proc/net/tcp", "/proc/net/tcp6")
        for fields in (line.split() for line in table.splitlines()):
            host, _, port = fields[1].partition(":")
            if fields[3] == LISTENING and host not in LOOPBACK:
                doors.add((address, int(port, 16)))
    return sorted(doors)


def reported_step(run: Run) -> int:
    """The step that the operator has heard of."""
    return int(status(run).get("step") or 0)
