"""Programs that come as Debian packages: what this machine lacks of them is installed."""

from __future__ import annotations

import shutil
from pathlib import Path

from tests.cluster.machines import run
from tests.cluster.tools import ToolMissing, say

# Package -> a program of it by which it is recognized.
PACKAGES = {
    "buildah": "buildah",
    "conntrack": "conntrack",
    "containerd": "/usr/bin/containerd",
    "containers-storage": "containers-storage",
    "containernetworking-plugins": "/usr/lib/cni/ptp",
    "debootstrap": "debootstrap",
    "iproute2": "ip",
    "ipset": "ipset",
    "iptables": "iptables",
    "procps": "sysctl",
    "runc": "runc",
    "util-linux": "nsenter",
}


def install_packages() -> None:
    """Install what is missing; raises ToolMissing where that cannot be done."""
    wanted = missing()
    if not wanted:
        return
    if shutil.which("apt-get") is None:
        raise ToolMissing(f"no {', '.join(wanted)}, and no apt-get to install them with")
    say(f"installing {' '.join(wanted)}")
    options = ["--yes", "--no-install-recommends", "--option", "Dpkg::Use-Pty=0"]
    try:
        run("env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "update", "--quiet=2")
        run("env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "install", "--quiet=2", *options, *wanted)
    except RuntimeError as error:
        raise ToolMissing(f"{', '.join(wanted)} cannot be installed: {error}") from error


def missing() -> list[str]:
    """Packages whose program is not here."""
    return [package for package, program in PACKAGES.items() if not _found(program)]


def _found(program: str) -> bool:
    return Path(program).exists() if program.startswith("/") else shutil.which(program) is not None
