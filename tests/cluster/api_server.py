"""A real API server over a real etcd, and nothing else: no controllers, no scheduler, no kubelet.

Starts in seconds, needs no root, and answers for what it alone decides: schemas, scale subresources, access and
server-side apply. What a controller or kubelet would write, tests write themselves (`tests/cluster/stand_ins.py`).
"""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.cluster.certificates import Authority
from tests.cluster.control_plane import etcd_flags
from tests.cluster.tools import SOURCES, module_folder, tool
from tests.integration.servers import free_port, running

READY_SECONDS = 60
# Operator, the module that has its manifests, and the file in it.
CRDS = (
    ("training-operator", "github.com/kubeflow/training-operator", "manifests/base/crds/kubeflow.org_pytorchjobs.yaml"),
    ("ray-operator", "github.com/ray-project/kuberay/ray-operator", "config/crd/bases/ray.io_rayjobs.yaml"),
)
ADMIN = "admin"
STRANGER = "stranger"


@dataclass(frozen=True)
class ApiServer:
    """A running API server and the kubeconfig files of its users."""

    url: str
    folder: Path

    def kubeconfig(self, user: str = ADMIN) -> Path:
        """Of ADMIN, who may do everything, or of STRANGER, who may do nothing."""
        path = self.folder / f"{user}.kubeconfig"
        cluster = {"server": self.url, "certificate-authority": str(self.folder / "ca.crt")}
        credentials = {
            "client-certificate": str(self.folder / f"{user}.crt"),
            "client-key": str(self.folder / f"{user}.key"),
        }
        content = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "test", "cluster": cluster}],
            "users": [{"name": user, "user": credentials}],
            "contexts": [{"name": user, "context": {"cluster": "test", "user": user}}],
            "current-context": user,
        }
        text = json.dumps(content)
        if not path.exists() or path.read_text() != text:  # programs that start may be reading it
            path.write_text(text)
        return path


@contextlib.contextmanager
def etcd(folder: Path) -> Iterator[str]:
    """etcd on free ports; its URL."""
    clients, peers = f"http://127.0.0.1:{free_port()}", f"http://127.0.0.1:{free_port()}"
    command = [str(tool("etcd")), *etcd_flags(folder / "etcd", clients=clients, peers=peers)]
    with running(command, int(clients.rpartition(":")[2]), folder / "etcd.log"):
        yield clients


@contextlib.contextmanager
def api_server(folder: Path, etcd_url: str) -> Iterator[ApiServer]:
    """An API server with what is below `folder`'s name in etcd; two of them share nothing."""
    prepare(folder)
    port = free_port()
    with running(command(folder, etcd_url, port), port, folder / "apiserver.log"):
        server = ApiServer(f"https://127.0.0.1:{port}", folder)
        wait_until_ready(server)
        yield server


def prepare(folder: Path, *users: str) -> None:
    """Keys and certificates of an API server, its two users and others (named as they are)."""
    folder.mkdir(parents=True, exist_ok=True)
    authority = Authority(folder)
    authority.server("server", ["127.0.0.1"], ["localhost"])
    authority.signing_key("service-accounts")
    authority.client(ADMIN, ADMIN, "system:masters")
    for user in (STRANGER, *users):
        authority.client(user, user)


def command(folder: Path, etcd_url: str, port: int, *more: str) -> list[str]:
    """What starts it."""
    return [
        str(tool("kube-apiserver")),
        f"--etcd-servers={etcd_url}",
        f"--etcd-prefix=/{folder.name}",
        "--bind-address=127.0.0.1",
        "--advertise-address=127.0.0.1",
        f"--secure-port={port}",
        "--endpoint-reconciler-type=none",
        "--service-cluster-ip-range=198.19.0.0/16",
        f"--client-ca-file={folder}/ca.crt",
        f"--tls-cert-file={folder}/server.crt",
        f"--tls-private-key-file={folder}/server.key",
        "--service-account-issuer=https://kubernetes.default.svc",
        f"--service-account-key-file={folder}/service-accounts.pub",
        f"--service-account-signing-key-file={folder}/service-accounts.key",
        "--authorization-mode=RBAC",
        # No controller makes the accounts that pods would have.
        "--disable-admission-plugins=ServiceAccount",
        "--kubelet-preferred-address-types=InternalIP",
        f"--cert-dir={folder}",
        *more,
    ]


def wait_until_ready(server: ApiServer) -> None:
    """Its port is open seconds before it can be used."""
    trust = ssl.create_default_context(cafile=str(server.folder / "ca.crt"))
    trust.load_cert_chain(server.folder / f"{ADMIN}.crt", server.folder / f"{ADMIN}.key")
    deadline = time.monotonic() + READY_SECONDS
    while True:
        with (
            contextlib.suppress(OSError),
            urllib.request.urlopen(f"{server.url}/readyz", context=trust, timeout=5) as answer,
        ):
            if answer.read() == b"ok":
                return
        if time.monotonic() > deadline:
            log = (server.folder / "apiserver.log").read_text(errors="replace")
            raise RuntimeError(f"the API server is not ready: {log[-1000:]}")
        time.sleep(0.1)


def crd_files() -> list[Path]:
    """CustomResourceDefinitions of PyTorchJob and RayJob, out of their operators' modules."""
    return [module_folder(SOURCES[operator].pins, module) / path for operator, module, path in CRDS]


def own_address() -> str | None:
    """An address of this machine that others could reach: an API server proxies to no loopback. Sends nothing."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("203.0.113.1", 9))
        except OSError:
            return None
        found = str(probe.getsockname()[0])
    return None if found.startswith("127.") else found
