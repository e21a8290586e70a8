"""The operator's command line. `python -m operators --help` shows it; `charts/gpt-platform` fills it."""

from __future__ import annotations

import argparse
import os
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

_OWN_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
_COORDINATOR_URL = "http://{name}-coordinator.{namespace}.svc:29480/status"


@dataclass(frozen=True)
class Settings:
    """What the command line says."""

    status_interval_seconds: float = 30.0
    poll_seconds: float = 10.0
    namespace: str = ""
    lease_namespace: str = "default"
    lease_name: str = "gpt-run-operator"
    identity: str = ""
    metrics_port: int = 9090
    log_format: str = "json"
    coordinator_url: str = _COORDINATOR_URL


def from_arguments(words: Sequence[str] | None = None) -> Settings:
    """Of the command line; ends the process with 2 where it is wrong."""
    parser = argparse.ArgumentParser(
        prog="python -m operators",
        description="Looks after TrainingRuns. The cluster is the one that the pod runs in, or KUBECONFIG's.",
        epilog="example: python -m operators --namespace team-a --log-format text",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add(
        "--status-interval-seconds", type=_positive, default=30.0, help="figures such as the step: one write in so long"
    )
    add("--poll-seconds", type=_positive, default=10.0, help="time between two questions to one coordinator")
    add("--namespace", default="", help="the only one to look after; empty: all")
    add("--lease-namespace", default=_own_namespace(), help="where the Lease lies that one of the replicas holds")
    add("--lease-name", default="gpt-run-operator", help="its name")
    add("--identity", default="", help="this replica's name in the Lease; empty: that of the machine, and the process")
    add("--metrics-port", type=int, default=9090, help="port of /metrics and /healthz; 0: one that is free")
    add("--log-format", choices=("json", "text"), default="json", help="lines for machines or for people")
    add("--coordinator-url", default=_COORDINATOR_URL, help="where a run's /status is, by {name} and {namespace}")
    found = vars(parser.parse_args(words))
    found["identity"] = found["identity"] or f"{socket.gethostname()}-{os.getpid()}"
    return Settings(**found)


def _positive(text: str) -> float:
    value = float(text)
    if not value > 0:
        raise argparse.ArgumentTypeError(f"{text} is not more than 0")
    return value


def _own_namespace() -> str:
    return _OWN_NAMESPACE.read_text().strip() if _OWN_NAMESPACE.exists() else "default"
