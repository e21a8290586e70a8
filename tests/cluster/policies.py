"""NetworkPolicies that hold: kube-router's firewall on each node, for as long as a test asks for it.

The cluster's network plug-in does not enforce policies, as many do not. kube-router writes rules into the nodes' filter
tables by the addresses of pods, beside those of kube-proxy, whatever plug-in connects them; its routing and its service
proxy stay off.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Sequence

from tests.cluster import layout
from tests.cluster.control_plane import CERTIFICATES
from tests.cluster.machines import Machine, wait_until
from tests.cluster.tools import tool

READY_SECONDS = 60
# Names of its chains, which are in every rule of its own.
_CHAINS = re.compile(r"KUBE-(ROUTER|POD-FW|NWPLCY)-")


@contextlib.contextmanager
def enforced(nodes: Sequence[Machine]) -> Iterator[None]:
    """In the block the nodes drop what no policy of a selected pod allows; after it they let all through again."""
    try:
        for node in nodes:
            _start(node)
        for node in nodes:
            complaint = f"no firewall of kube-router on {node.name} (see {layout.LOGS})"
            wait_until(lambda node=node: "KUBE-ROUTER-FORWARD" in _rules(node), READY_SECONDS, complaint)  # type: ignore[misc]  # bound now
        yield
    finally:
        for node in nodes:
            node.stop(tool("kube-router"))
            kept = [line for line in _rules(node).splitlines() if not _CHAINS.search(line)]
            node.run("iptables-restore", stdin="\n".join(kept) + "\n")
            node.run("ipset", "destroy")


def _start(node: Machine) -> None:
    options = [
        f"--kubeconfig={CERTIFICATES}/kube-router.kubeconfig",
        f"--hostname-override={node.name}",
        f"--service-cluster-ip-range={layout.SERVICE_SUBNET}",
        "--run-firewall=true",
        "--run-router=false",
        "--run-service-proxy=false",
    ]
    node.start("kube-router", [tool("kube-router"), *options])


def _rules(node: Machine) -> str:
    """The filter table."""
    return node.run("iptables-save", "--table", "filter")
