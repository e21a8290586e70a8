"""Prometheus as its operator sets it up, for what charts make of its kinds: ServiceMonitors and rules.

Both programs run on the control machine, from where pods can be reached. The operator finds the charts' objects and
makes a configuration of them; Prometheus, which would get it as files in a pod, is started with it as it is.
"""

from __future__ import annotations

import base64
import contextlib
import gzip
import json
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import yaml

from tests.cluster import addons, layout
from tests.cluster.client import Namespace, Object
from tests.cluster.control_plane import CERTIFICATES
from tests.cluster.machines import Machine, wait_until
from tests.cluster.tools import PROMETHEUS_OPERATOR, module_folder, tool
from tests.integration.metrics.scraping import Prometheus

GROUP = "monitoring.coreos.com"
MODULE = "github.com/prometheus-operator/prometheus-operator"
# The operator insists on those of them that no chart makes.
KINDS = ("prometheuses", "servicemonitors", "prometheusrules", "podmonitors", "probes")
NAME = "test"
PORT = 9090
RULES_IN_POD = "/etc/prometheus/rules"
READY_SECONDS = 60
CONFIGURED_SECONDS = 120


@contextlib.contextmanager
def prometheus_operator(control: Machine) -> Iterator[None]:
    """The operator and its kinds; after the block both are gone, and all objects of these kinds."""
    folder = module_folder(PROMETHEUS_OPERATOR, MODULE) / "example" / "prometheus-operator-crd"
    arguments = [
        f"--apiserver=https://{layout.CONTROL}:{layout.API_PORT}",
        f"--ca-file={CERTIFICATES}/ca.crt",
        f"--cert-file={CERTIFICATES}/admin.crt",
        f"--key-file={CERTIFICATES}/admin.key",
        "--web.listen-address=127.0.0.1:0",
    ]
    try:
        addons.apply([yaml.safe_load((folder / f"{GROUP}_{kind}.yaml").read_text()) for kind in KINDS])
        wait_until(kinds_are_served, READY_SECONDS, "the operator's kinds are not served")
        control.start("prometheus-operator", [tool("prometheus-operator"), *arguments])
        yield
    finally:
        control.stop(tool("prometheus-operator"))
        addons.kubectl("delete", "crd", "--ignore-not-found", *definitions())


@contextlib.contextmanager
def prometheus(
    control: Machine, namespace: Namespace, folder: Path, *, rules: str, monitor: str
) -> Iterator[Prometheus]:
    """A Prometheus that scrapes and evaluates what the operator found in the namespace, until the block ends.

    rules, monitor: the PrometheusRule and the ServiceMonitor that it must have found.
    """
    namespace.apply([prometheus_object()])
    configuration = folder / "prometheus.yaml"
    configuration.write_text(
        found_configuration(namespace, monitor)
        .replace("$(SHARD)", "0")
        .replace("$(POD_NAME)", NAME)
        .replace(RULES_IN_POD, str(folder))
    )
    write_rules(namespace, rules, folder)
    address = f"{layout.CONTROL}:{PORT}"
    command: list[str | Path] = [
        tool("prometheus"),
        f"--config.file={configuration}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address={address}",
    ]
    control.start("prometheus", command)
    log = layout.LOGS / f"{control.name}-prometheus.log"
    try:
        wait_until(lambda: is_ready(f"http://{address}"), READY_SECONDS, f"Prometheus not ready (see {log})")
        yield Prometheus(f"http://{address}", log)
    finally:
        control.stop(tool("prometheus"))


def prometheus_object() -> Object:
    """What asks the operator for a Prometheus that takes every object of its namespace; without a pod."""
    return {
        "apiVersion": f"{GROUP}/v1",
        "kind": "Prometheus",
        "metadata": {"name": NAME},
        "spec": {
            "replicas": 0,
            "evaluationInterval": "1s",
            "serviceMonitorSelector": {},
            "ruleSelector": {},
            "apiserverConfig": {
                "host": f"https://{layout.CONTROL}:{layout.API_PORT}",
                "tlsConfig": {
                    "caFile": f"{CERTIFICATES}/ca.crt",
                    "certFile": f"{CERTIFICATES}/admin.crt",
                    "keyFile": f"{CERTIFICATES}/admin.key",
                },
            },
        },
    }


def found_configuration(namespace: Namespace, monitor: str) -> str:
    """The operator's configuration, once this ServiceMonitor is in it."""

    def found() -> str | None:
        secret = namespace.get("secret", f"prometheus-{NAME}")
        text = gzip.decompress(base64.b64decode(secret["data"]["prometheus.yaml.gz"])).decode() if secret else ""
        return text if f"serviceMonitor/{namespace.name}/{monitor}/0" in text else None

    return namespace.wait("configuration for Prometheus", CONFIGURED_SECONDS, found)


def write_rules(namespace: Namespace, name: str, folder: Path) -> None:
    """Write the operator's rule files, once this PrometheusRule is among them: it leaves out what is not valid."""

    def found() -> Object | None:
        files = namespace.get("configmap", f"prometheus-{NAME}-rulefiles-0")
        data: Object = (files or {}).get("data") or {}
        return data if any(file.startswith(f"{namespace.name}-{name}-") for file in data) else None

    target = folder / f"prometheus-{NAME}-rulefiles-0"
    target.mkdir()
    for file, text in namespace.wait("rule files for Prometheus", CONFIGURED_SECONDS, found).items():
        (target / file).write_text(text)


def is_ready(url: str) -> bool:
    """Whether a Prometheus answers."""
    with contextlib.suppress(OSError), urllib.request.urlopen(f"{url}/-/ready", timeout=5):
        return True
    return False


def definitions() -> list[str]:
    """Names of the CRDs."""
    return [f"{kind}.{GROUP}" for kind in KINDS]


def kinds_are_served() -> bool:
    """Whether objects of all kinds may be made."""
    found = json.loads(addons.kubectl("get", "crd", *definitions(), "--output", "json"))["items"]
    # Those that have just been made have no conditions yet, which `kubectl wait` and JSON paths take for an error.
    states = [{one["type"]: one["status"] for one in crd["status"].get("conditions") or []} for crd in found]
    return all(state.get("Established") == "True" for state in states)
