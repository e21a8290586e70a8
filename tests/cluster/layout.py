"""Names, addresses and paths of the test cluster.

Three machines: `control` runs the control plane, DNS and S3; `node-a` and `node-b` run pods. Everything lies in
198.18.0.0/15, which RFC 2544 sets aside for tests of network devices, so no real network is hidden by it.
"""

from __future__ import annotations

from pathlib import Path

from tests.cluster.tools import SOURCES, cache_folder, cache_root

# Of the running cluster; goes with it.
STATE = Path("/var/lib/gpt-run-cluster")
LOGS = STATE / "logs"
KUBECONFIG = STATE / "admin.kubeconfig"
# Stays: what nodes hold of images, so that the next bring-up need not import them.
CACHE = cache_root() / "cluster"

NODES = ("node-a", "node-b")
ADDRESSES = {"control": "198.18.0.1", "node-a": "198.18.0.2", "node-b": "198.18.0.3"}
CONTROL = ADDRESSES["control"]
# The machine that this runs on, as tests see the cluster from it.
HOST_INTERFACE = "gpt-run-test"
HOST_ADDRESS = "198.18.0.254"
POD_SUBNETS = {"node-a": "198.18.129.0/24", "node-b": "198.18.130.0/24"}
SERVICE_SUBNET = "198.19.0.0/16"
FIRST_SERVICE_ADDRESS = "198.19.0.1"
CLUSTER_DOMAIN = "cluster.local"

API_PORT = 6443
S3_PORT = 7070
S3_ACCESS_KEY = "access"
S3_SECRET_KEY = "secret-key"  # pragma: allowlist secret

# Cgroups of pods are below this name in every hierarchy.
CGROUP = "gpt-run-cluster"

PROJECT_REPOSITORY = "ghcr.io/gpt-run"
# Of images that exist here only.
REPOSITORY = "gpt-run.test"
# Platform pods stay on this node, so that tests may lose the other.
PLATFORM_NODE = "node-a"


def program_image(name: str) -> str:
    """Reference of the image with one program of tools.py in it."""
    return f"{REPOSITORY}/{name}:{cache_folder(SOURCES[name].pins).name}"
