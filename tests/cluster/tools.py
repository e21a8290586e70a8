"""Programs that tests need and no package registry has ready: the control plane, operators, helm, linters.

Each is built from its Go module, once, into a cache keyed by the pins (go.mod and go.sum, here and in tests/tools). The
cluster and the chart tests ask for them by name; a machine without Go gets `ToolMissing` with the reason.

    python -m tests.cluster.tools NAME...     compile those that are missing, and print where each lies
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

# Several sets of pins, because requirements clash (see the go.mod files); tests/tools has the servers of stores.
KUBERNETES = Path(__file__).parent / "pins" / "kubernetes"
ADDONS = Path(__file__).parent / "pins" / "addons"
KUBERAY = Path(__file__).parent / "pins" / "kuberay"
KUBE_ROUTER = Path(__file__).parent / "pins" / "kube-router"
KUEUE = Path(__file__).parent / "pins" / "kueue"
PROMETHEUS = Path(__file__).parent / "pins" / "prometheus"
PROMETHEUS_OPERATOR = Path(__file__).parent / "pins" / "prometheus-operator"
SERVERS = Path(__file__).parents[1] / "tools"
# Without it the control plane calls itself v0.0.0, and clients that compare versions refuse it.
KUBERNETES_VERSION = "v1.34.4"
VERSION_FLAGS = f"-X k8s.io/component-base/version.gitVersion={KUBERNETES_VERSION}"


class ToolMissing(Exception):
    """A program cannot be had on this machine; the message says why."""


@dataclass(frozen=True)
class Source:
    """Where a program comes from: the folder of its pins, and its Go package."""

    pins: Path
    package: str
    flags: str = ""


# In the order in which a bring-up needs them; what takes longest to compile comes early.
SOURCES = {
    "etcd": Source(KUBERNETES, "go.etcd.io/etcd/server/v3"),
    "kube-apiserver": Source(KUBERNETES, "k8s.io/kubernetes/cmd/kube-apiserver", VERSION_FLAGS),
    "kubectl": Source(KUBERNETES, "k8s.io/kubernetes/cmd/kubectl", VERSION_FLAGS),
    "kube-controller-manager": Source(KUBERNETES, "k8s.io/kubernetes/cmd/kube-controller-manager", VERSION_FLAGS),
    "kube-scheduler": Source(KUBERNETES, "k8s.io/kubernetes/cmd/kube-scheduler", VERSION_FLAGS),
    "kubelet": Source(KUBERNETES, "k8s.io/kubernetes/cmd/kubelet", VERSION_FLAGS),
    "kube-proxy": Source(KUBERNETES, "k8s.io/kubernetes/cmd/kube-proxy", VERSION_FLAGS),
    "pause": Source(ADDONS, "./pause"),
    "coredns": Source(ADDONS, "./coredns"),
    "versitygw": Source(SERVERS, "github.com/versity/versitygw/cmd/versitygw"),
    "fake-gcs-server": Source(SERVERS, "github.com/fsouza/fake-gcs-server"),
    "training-operator": Source(ADDONS, "github.com/kubeflow/training-operator/cmd/training-operator.v1"),
    "ray-operator": Source(KUBERAY, "github.com/ray-project/kuberay/ray-operator"),
    "kube-router": Source(KUBE_ROUTER, "github.com/cloudnativelabs/kube-router/cmd/kube-router"),
    "helm": Source(ADDONS, "helm.sh/helm/v3/cmd/helm"),
    "kwok": Source(ADDONS, "sigs.k8s.io/kwok/cmd/kwok"),
    "prometheus": Source(PROMETHEUS, "github.com/prometheus/prometheus/cmd/prometheus"),
    "prometheus-operator": Source(
        PROMETHEUS_OPERATOR, "github.com/prometheus-operator/prometheus-operator/cmd/operator"
    ),
    "actionlint": Source(ADDONS, "github.com/rhysd/actionlint/cmd/actionlint"),
}


def main() -> None:
    """Do what the command line says."""
    try:
        for name in sys.argv[1:]:
            print(tool(name))
    except ToolMissing as missing:
        sys.exit(str(missing))


def tool(name: str) -> Path:
    """The program of this name; compiled first if no run before has done so (seconds to minutes).

    Raises ToolMissing when Go is absent or the build fails, KeyError for a name that SOURCES lacks.
    """
    source = SOURCES[name]
    program = cache_folder(source.pins) / "bin" / name
    if program.exists():
        return program
    check_go(name)
    with locked(program.parent.parent / f"{name}.lock"):
        if not program.exists():
            build(name, source, program)
    return program


def module_folder(pins: Path, module: str) -> Path:
    """Where the files of a pinned module lie (manifests, CRDs), downloaded if need be."""
    check_go(module)
    output = run_go(["mod", "download", "-json", module], pins, f"{module} cannot be downloaded")
    return Path(json.loads(output)["Dir"])


def build(name: str, source: Source, program: Path) -> None:
    """Compile one program and put it in place in one step, so that a killed build leaves no half of it."""
    program.parent.mkdir(parents=True, exist_ok=True)
    partial = program.with_name(f".{name}.partial")
    started = time.monotonic()
    say(f"building {name} ({source.package})")
    flags = f"-s -w {source.flags}".strip()
    arguments = ["build", "-trimpath", "-ldflags", flags, "-o", str(partial), source.package]
    run_go(arguments, source.pins, f"{name} cannot be built")
    partial.rename(program)
    say(f"built {name} in {time.monotonic() - started:.0f} s")


def run_go(arguments: list[str], pins: Path, complaint: str) -> str:
    """Run the go command among the pins; what it printed."""
    # GOWORK: a workspace of whoever runs this must not change the pins. GOFLAGS may hold -mod=mod, which would.
    environment = os.environ | {"CGO_ENABLED": "0", "GOWORK": "off", "GOFLAGS": "-mod=readonly -buildvcs=false"}
    result = subprocess.run(["go", *arguments], cwd=pins, env=environment, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        lines = (result.stderr.strip() or result.stdout.strip() or "no output").splitlines()
        raise ToolMissing(f"{complaint}: {' | '.join(lines[-3:])}")
    return result.stdout


def check_go(name: str) -> None:
    """Complain where there is no Go."""
    if shutil.which("go") is None:
        raise ToolMissing(f"{name}: no Go toolchain on PATH; Go 1.26 or newer builds it")


def cache_folder(pins: Path) -> Path:
    """Where programs of these pins are kept between runs."""
    files = [pins / "go.mod", pins / "go.sum", *sorted(pins.rglob("*.go"))]
    content = b"".join(file.read_bytes() for file in files)
    folder = cache_root() / "cluster-tools" / hashlib.sha256(content).hexdigest()[:16]
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def cache_root() -> Path:
    """The project's folder in the user's cache."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "gpt-run"


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """One process at a time holds this file."""
    with path.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def say(text: str) -> None:
    """A line of progress."""
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
