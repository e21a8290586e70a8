"""A node: containerd, kubelet and kube-proxy on a machine of their own, each told to keep its files in our folders.

The kernel's settings, the cgroup tree and a few fixed paths are shared with the host all the same; `_hide` and
`remove_cgroups` see that nothing of a node is left there.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
from functools import partial
from pathlib import Path

from tests.cluster import layout
from tests.cluster.control_plane import CERTIFICATES
from tests.cluster.machines import Machine, run, wait_until
from tests.cluster.tools import tool

CGROUPS = Path("/sys/fs/cgroup")
CONTAINERD = "/usr/bin/containerd"
CNI_PROGRAMS = "/usr/lib/cni"
# Paths that programs know by heart: a node sees a folder of its own there. Some exist on a node only.
FIXED_PATHS = ("/run", "/var/lib/cni", "/var/lib/kubelet", "/var/log/containers", "/var/log/pods")
MADE_PATHS = FIXED_PATHS[1:]
# What the kubelet wants of the kernel. It finds it there, on files of ours, and leaves the host's settings alone.
KERNEL_SETTINGS = {
    "vm/overcommit_memory": "1",
    "vm/panic_on_oom": "0",
    "kernel/panic": "10",
    "kernel/panic_on_oops": "1",
    "kernel/keys/root_maxkeys": "1000000",
    "kernel/keys/root_maxbytes": "25000000",
}
CONTAINERD_SECONDS = 30
REMOVE_SECONDS = 10


def prepare(machine: Machine) -> None:
    """Make a machine ready for the programs of a node; one that was off has forgotten what was in its memory."""
    for volatile in ("containerd", "runc", "fixed/run"):
        shutil.rmtree(machine.folder / volatile, ignore_errors=True)
    _hide(machine)
    for folder in cgroups(machine.name):
        folder.mkdir(parents=True, exist_ok=True)
    network = machine.folder / "cni"
    network.mkdir(exist_ok=True)
    (network / "10-pods.conflist").write_text(json.dumps(cni_config(machine)))
    (machine.folder / "containerd.toml").write_text(containerd_config(machine))
    (machine.folder / "kubelet.yaml").write_text(json.dumps(kubelet_config(machine)))


def start_containerd(machine: Machine) -> None:
    """Start it on the images of runs before, without their containers."""
    _run_containerd(machine)
    left = ctr(machine, "containers", "list", "--quiet").split()
    if left:
        ctr(machine, "containers", "delete", *left)
        # Its Kubernetes side has read the list of containers at its start.
        machine.stop(CONTAINERD)
        _run_containerd(machine)


def start_kubelet(machine: Machine) -> None:
    """Start what makes the machine a node; it becomes Ready by itself."""
    machine.start(
        "kubelet",
        [
            tool("kubelet"),
            f"--config={machine.folder}/kubelet.yaml",
            f"--kubeconfig={CERTIFICATES}/{machine.name}.kubeconfig",
            f"--hostname-override={machine.name}",
            f"--node-ip={machine.address}",
        ],
    )
    machine.start(
        "kube-proxy",
        [
            tool("kube-proxy"),
            f"--kubeconfig={CERTIFICATES}/kube-proxy.kubeconfig",
            f"--hostname-override={machine.name}",
            "--proxy-mode=iptables",
            # Connection tracking and the killer's preference are settings of the host.
            "--conntrack-max-per-core=0",
            "--conntrack-tcp-timeout-established=0",
            "--conntrack-tcp-timeout-close-wait=0",
            "--oom-score-adj=0",
        ],
    )


def power_off(machine: Machine) -> None:
    """Take a node away without a word, as a power cut does."""
    machine.power_off()
    remove_cgroups(machine.name)


def kill_container(machine: Machine, container: str) -> None:
    """SIGKILL to the first process of a container, as the kernel does when memory runs out."""
    ctr(machine, "tasks", "kill", "--signal", "SIGKILL", container.removeprefix("containerd://"))


def ctr(machine: Machine, *arguments: str) -> str:
    """containerd's own client, among the images and containers of Kubernetes."""
    return run("ctr", "--address", socket(machine), "--namespace", "k8s.io", *arguments)


def socket(machine: Machine) -> Path:
    """Where its containerd listens."""
    return machine.folder / "containerd.sock"


def cgroups(name: str) -> list[Path]:
    """The node's folder in every cgroup hierarchy: one with version 2, one for each controller with version 1."""
    if (CGROUPS / "cgroup.controllers").exists():
        return [CGROUPS / layout.CGROUP / name]
    hierarchies = [folder for folder in CGROUPS.iterdir() if folder.is_dir() and not folder.is_symlink()]
    return [folder / layout.CGROUP / name for folder in hierarchies]


def remove_cgroups(name: str) -> None:
    """Remove the node's cgroups, children first; nothing runs in them any more."""
    for top in cgroups(name):
        for folder, _, _ in os.walk(top, topdown=False):
            # The kernel lets go of a cgroup a moment after its last process.
            wait_until(partial(_removed, Path(folder)), REMOVE_SECONDS, f"{folder} is still in use")
    for top in {folder.parent for folder in cgroups(name)}:
        if top.exists() and not any(child.is_dir() for child in top.iterdir()):
            top.rmdir()


def remove_made_paths() -> None:
    """Remove folders that had to be there for a node, if they are empty."""
    for path in map(Path, MADE_PATHS):
        if path.is_dir() and not any(path.iterdir()):
            path.rmdir()


def containerd_config(machine: Machine) -> str:
    """Everything in folders of ours; namespaces of pods in one that goes with the machine."""
    cri = 'plugins."io.containerd.grpc.v1.cri"'
    return f"""
version = 2
root = "{layout.CACHE / machine.name}"
state = "{machine.folder}/containerd"
oom_score = 0
[grpc]
address = "{socket(machine)}"
[plugins."io.containerd.internal.v1.opt"]
path = "{machine.folder}/opt"
[{cri}]
sandbox_image = "{layout.program_image("pause")}"
# Containers may be made more killable than containerd is, not less: that takes a capability that we may lack.
restrict_oom_score_adj = true
netns_mounts_under_state_dir = true
[{cri}.containerd]
snapshotter = "overlayfs"
[{cri}.containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
[{cri}.containerd.runtimes.runc.options]
Root = "{machine.folder}/runc"
SystemdCgroup = false
[{cri}.cni]
bin_dir = "{CNI_PROGRAMS}"
conf_dir = "{machine.folder}/cni"
"""


def cni_config(machine: Machine) -> dict[str, object]:
    """Each pod at the end of a cable of its own: all its traffic is routed, so kube-proxy's rules see all of it."""
    ranges = [[{"subnet": layout.POD_SUBNETS[machine.name]}]]
    addresses = {
        "type": "host-local",
        "ranges": ranges,
        "routes": [{"dst": "0.0.0.0/0"}],
        "dataDir": f"{machine.folder}/addresses",
    }
    return {
        "cniVersion": "0.4.0",
        "name": "pods",
        "plugins": [
            {"type": "ptp", "mtu": 1500, "ipMasq": False, "ipam": addresses},
            {"type": "portmap", "capabilities": {"portMappings": True}},
        ],
    }


def kubelet_config(machine: Machine) -> dict[str, object]:
    """A kubelet that never evicts or collects images for want of disk: the disk is the host's."""
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": f"{CERTIFICATES}/ca.crt"},
        },
        "authorization": {"mode": "Webhook"},
        "containerRuntimeEndpoint": f"unix://{socket(machine)}",
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{layout.CGROUP}/{machine.name}",
        "failCgroupV1": False,
        "failSwapOn": False,
        "oomScoreAdj": 0,
        "clusterDNS": [layout.CONTROL],
        "clusterDomain": layout.CLUSTER_DOMAIN,
        "resolvConf": "",
        "volumePluginDir": f"{machine.folder}/volume-plugins",
        # On a disk that fills up images would be removed, and there is no registry to get them from again.
        "evictionHard": {"memory.available": "100Mi", "nodefs.available": "0%", "imagefs.available": "0%"},
        "imageGCHighThresholdPercent": 100,
        # Pods start one after the other at five a second by default; tests wait for them.
        "registryPullQPS": 50,
        "eventRecordQPS": 50,
        "logging": {"verbosity": 1},
    }


def _run_containerd(machine: Machine) -> None:
    (layout.CACHE / machine.name).mkdir(parents=True, exist_ok=True)
    machine.start("containerd", [CONTAINERD, "--config", machine.folder / "containerd.toml"])
    complaint = f"containerd of {machine.name} not ready (see {layout.LOGS})"
    wait_until(lambda: _answers(machine), CONTAINERD_SECONDS, complaint)


def _removed(folder: Path) -> bool:
    try:
        folder.rmdir()
    except OSError as error:
        if error.errno != errno.EBUSY:
            raise
        return False
    return True


def _answers(machine: Machine) -> bool:
    try:
        ctr(machine, "version")
    except RuntimeError:
        return False
    return True


def _hide(machine: Machine) -> None:
    """Lay files and folders of the node's own over those that it would share with the host."""
    for path in FIXED_PATHS:
        own = machine.folder / "fixed" / path.lstrip("/")
        own.mkdir(parents=True, exist_ok=True)
        Path(path).mkdir(parents=True, exist_ok=True)
        machine.run("mount", "--bind", str(own), path)
    for name, value in KERNEL_SETTINGS.items():
        own = machine.folder / "kernel" / name
        own.parent.mkdir(parents=True, exist_ok=True)
        own.write_text(f"{value}\n")
        machine.run("mount", "--bind", str(own), f"/proc/sys/{name}")
