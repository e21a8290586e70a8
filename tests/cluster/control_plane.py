"""The control machine: etcd, API server, controllers, scheduler, DNS and S3, each a plain process.

They start in the order in which they need each other. `start` and `stop` of one program are what fault tests take the
S3 server or DNS away with.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tests.cluster import layout
from tests.cluster.certificates import Authority
from tests.cluster.machines import Machine, run, wait_until
from tests.cluster.tools import tool

CERTIFICATES = layout.STATE / "certificates"
COREFILE = layout.STATE / "Corefile"
S3_DATA = layout.STATE / "s3"
READY_SECONDS = 120
PROGRAMS = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "coredns", "versitygw")


def write_certificates() -> None:
    """Keys, certificates and kubeconfig files for everything; new ones for every cluster."""
    authority = Authority(CERTIFICATES)
    service = [
        "kubernetes",
        "kubernetes.default",
        "kubernetes.default.svc",
        f"kubernetes.default.svc.{layout.CLUSTER_DOMAIN}",
    ]
    authority.server("apiserver", [layout.CONTROL, layout.FIRST_SERVICE_ADDRESS, "127.0.0.1"], service)
    authority.signing_key("service-accounts")
    authority.client("admin", "test-admin", "system:masters")
    authority.client("apiserver-to-kubelet", "apiserver", "system:masters")
    authority.client("kube-controller-manager", "system:kube-controller-manager")
    authority.client("kube-scheduler", "system:kube-scheduler")
    authority.client("kube-proxy", "system:kube-proxy")
    for name in ("coredns", "kube-router", "kwok"):
        authority.client(name, f"test:{name}", "system:masters")
    for node in layout.NODES:
        authority.client(node, f"system:node:{node}", "system:nodes")
    (CERTIFICATES / "admin.kubeconfig").rename(layout.KUBECONFIG)


def start_control_plane(control: Machine) -> None:
    """Start everything and wait until the API server answers and the rest can be used."""
    COREFILE.write_text(corefile())
    S3_DATA.mkdir(exist_ok=True)
    for name in PROGRAMS:
        start(control, name)
        if name == "kube-apiserver":
            wait_until(api_ready, READY_SECONDS, f"API server not ready (see {layout.LOGS})")


def start(control: Machine, name: str) -> None:
    """Start one of PROGRAMS."""
    command, environment = COMMANDS[name]()
    control.start(name, [tool(name), *command], environment)


def stop(control: Machine, name: str) -> None:
    """Stop one of PROGRAMS."""
    control.stop(tool(name))


def api_ready() -> bool:
    """Whether the API server says that it is ready."""
    try:
        return run(tool("kubectl"), "--kubeconfig", layout.KUBECONFIG, "get", "--raw", "/readyz") == "ok"
    except RuntimeError:
        return False


Command = tuple[list[str], dict[str, str]]


def etcd() -> Command:
    """Where the API server looks for it."""
    return etcd_flags(layout.STATE / "etcd", clients="http://127.0.0.1:2379", peers="http://127.0.0.1:2380"), {}


def etcd_flags(data: Path, *, clients: str, peers: str) -> list[str]:
    """One member alone. Its data need not survive a power cut, so it does not wait for the disk."""
    return [
        f"--data-dir={data}",
        "--unsafe-no-fsync",
        f"--listen-client-urls={clients}",
        f"--advertise-client-urls={clients}",
        f"--listen-peer-urls={peers}",
        f"--initial-advertise-peer-urls={peers}",
        f"--initial-cluster=default={peers}",
        "--log-level=warn",
    ]


def apiserver() -> Command:
    """A node that is gone is given up after half a minute instead of five: tests wait for it."""
    return [
        "--etcd-servers=http://127.0.0.1:2379",
        "--bind-address=0.0.0.0",
        f"--advertise-address={layout.CONTROL}",
        f"--secure-port={layout.API_PORT}",
        f"--service-cluster-ip-range={layout.SERVICE_SUBNET}",
        f"--client-ca-file={CERTIFICATES}/ca.crt",
        f"--tls-cert-file={CERTIFICATES}/apiserver.crt",
        f"--tls-private-key-file={CERTIFICATES}/apiserver.key",
        f"--kubelet-client-certificate={CERTIFICATES}/apiserver-to-kubelet.crt",
        f"--kubelet-client-key={CERTIFICATES}/apiserver-to-kubelet.key",
        # Without it logs and exec look nodes up by name, and no DNS knows them.
        "--kubelet-preferred-address-types=InternalIP",
        f"--service-account-issuer=https://kubernetes.default.svc.{layout.CLUSTER_DOMAIN}",
        f"--service-account-key-file={CERTIFICATES}/service-accounts.pub",
        f"--service-account-signing-key-file={CERTIFICATES}/service-accounts.key",
        "--authorization-mode=Node,RBAC",
        "--enable-admission-plugins=NodeRestriction",
        # Webhooks are reached by the pod's address: no kube-proxy runs on this machine.
        "--enable-aggregator-routing",
        "--allow-privileged",
        "--default-not-ready-toleration-seconds=30",
        "--default-unreachable-toleration-seconds=30",
    ], {}


def controller_manager() -> Command:
    """Notices a silent node within 20 s."""
    return [
        f"--kubeconfig={CERTIFICATES}/kube-controller-manager.kubeconfig",
        "--bind-address=127.0.0.1",
        "--use-service-account-credentials",
        f"--root-ca-file={CERTIFICATES}/ca.crt",
        f"--service-account-private-key-file={CERTIFICATES}/service-accounts.key",
        "--node-monitor-period=2s",
        "--node-monitor-grace-period=20s",
        "--leader-elect=false",
    ], {}


def scheduler() -> Command:
    """One scheduler, so nothing to elect."""
    return [
        f"--kubeconfig={CERTIFICATES}/kube-scheduler.kubeconfig",
        "--bind-address=127.0.0.1",
        "--leader-elect=false",
    ], {}


def coredns() -> Command:
    """DNS for pods, on the control machine's address."""
    return ["-conf", str(COREFILE)], {}


def corefile() -> str:
    """Names of the cluster, and for all others a quick no: there is nobody to ask."""
    return f"""
{layout.CLUSTER_DOMAIN}:53 in-addr.arpa:53 {{
    bind {layout.CONTROL}
    errors
    kubernetes {layout.CLUSTER_DOMAIN} in-addr.arpa {{
        kubeconfig {CERTIFICATES}/coredns.kubeconfig test
        pods insecure
        ttl 5
    }}
}}
.:53 {{
    bind {layout.CONTROL}
    errors
    template ANY ANY {{
        rcode NXDOMAIN
    }}
}}
"""


def versitygw() -> Command:
    """S3 over a folder; a bucket is a folder in it."""
    keys = {"ROOT_ACCESS_KEY": layout.S3_ACCESS_KEY, "ROOT_SECRET_KEY": layout.S3_SECRET_KEY}
    return ["--port", f"{layout.CONTROL}:{layout.S3_PORT}", "posix", str(S3_DATA)], keys


COMMANDS: dict[str, Callable[[], Command]] = {
    "etcd": etcd,
    "kube-apiserver": apiserver,
    "kube-controller-manager": controller_manager,
    "kube-scheduler": scheduler,
    "coredns": coredns,
    "versitygw": versitygw,
}
