"""A real Prometheus that scrapes what a test serves, evaluates the rules it is given, and is asked what it saw.

Everything is fast: it scrapes and evaluates several times a second and forgets a series that is gone within seconds, so
that rules rendered with a small `durationScale` live as they do on a cluster in minutes.
"""

from __future__ import annotations

import contextlib
import json
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.integration.servers import free_port, running
from tests.rules.rendering import Group, write_rules
from tests.tools.prometheus import prometheus_programs

SCRAPE_SECONDS = 0.25
WAIT_SECONDS = 120.0

Labels = dict[str, str]


@dataclass(frozen=True)
class Prometheus:
    """One that runs."""

    url: str
    log: Path

    def query(self, expression: str) -> list[tuple[Labels, float]]:
        """What an instant query answers now: (labels, value) of each series; a scalar has no labels."""
        data = self._get("query", query=expression)
        if data["resultType"] == "scalar":
            return [({}, float(data["result"][1]))]
        return [(series["metric"], float(series["value"][1])) for series in data["result"]]

    def query_range(
        self, expression: str, *, start: float, end: float, step: float = SCRAPE_SECONDS
    ) -> list[tuple[Labels, list[tuple[float, float]]]]:
        """(labels, [(time, value)]) of each series between two times, seconds since the epoch."""
        data = self._get("query_range", query=expression, start=f"{start:.3f}", end=f"{end:.3f}", step=f"{step:.3f}")
        return [
            (series["metric"], [(moment, float(value)) for moment, value in series["values"]])
            for series in data["result"]
        ]

    def samples(self, name: str) -> list[tuple[Labels, list[float]]]:
        """(labels, values as they were scraped) of each series of the last hour."""
        found = self._get("query", query=f"{name}[1h]")["result"]
        return [(series["metric"], [float(value) for _, value in series["values"]]) for series in found]

    def rules(self) -> list[dict[str, Any]]:
        """Groups of rules, with each rule's health and last error."""
        groups: list[dict[str, Any]] = self._get("rules")["groups"]
        return groups

    def targets(self) -> list[dict[str, Any]]:
        """What is scraped, with health and last error."""
        found: list[dict[str, Any]] = self._get("targets")["activeTargets"]
        return found

    def alerts(self) -> dict[str, str]:
        """Alert -> pending or firing; what is inactive is missing."""
        states: dict[str, str] = {}
        for alert in self._get("alerts")["alerts"]:
            name = alert["labels"]["alertname"]
            states[name] = "firing" if "firing" in (alert["state"], states.get(name)) else "pending"
        return states

    def wait_for(self, alert: str, state: str, seconds: float = WAIT_SECONDS) -> None:
        """Wait until an alert is in a state: inactive, pending or firing."""
        self.wait_until(lambda: self.alerts().get(alert, "inactive") == state, f"{alert} is not {state}", seconds)

    def wait_until(self, condition: Callable[[], object], complaint: str, seconds: float = WAIT_SECONDS) -> None:
        """Wait until it holds; fails with the complaint and what Prometheus sees of the run."""
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                seen = [f"{labels} {value}" for labels, value in self.query('{__name__=~"trainer_.*|run:.*|ALERTS"}')]
                raise AssertionError("\n".join([f"{complaint} after {seconds:.0f} s", str(self.alerts()), *seen]))
            time.sleep(SCRAPE_SECONDS)

    def has_been(self, alert: str, state: str) -> bool:
        """Whether an alert was in a state at any time."""
        return bool(self.query(f'count_over_time(ALERTS{{alertname="{alert}", alertstate="{state}"}}[1d])'))

    def _get(self, path: str, **parameters: str) -> Any:
        url = f"{self.url}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        with urllib.request.urlopen(url, timeout=30) as answer:
            return json.load(answer)["data"]


@contextlib.contextmanager
def prometheus(
    folder: Path, ports: Sequence[int], groups: Sequence[Group] = (), *, lookback_seconds: float = 3.0
) -> Iterator[Prometheus]:
    """One that scrapes /metrics at these ports of this machine, until the block ends.

    lookback_seconds: how long a series that stopped counts as there; five minutes, times the rules' durationScale.
    """
    programs = prometheus_programs()
    folder.mkdir(parents=True, exist_ok=True)
    every = f"{round(SCRAPE_SECONDS * 1000)}ms"
    settings = {
        "global": {"scrape_interval": every, "scrape_timeout": every, "evaluation_interval": every},
        "scrape_configs": [
            {"job_name": "run", "static_configs": [{"targets": [f"127.0.0.1:{port}" for port in ports]}]},
        ],
        "rule_files": [str(write_rules(list(groups), folder / "rules.yaml"))],
    }
    (folder / "prometheus.yaml").write_text(yaml.safe_dump(settings))
    port = free_port()
    command = [
        str(programs.prometheus),
        f"--config.file={folder / 'prometheus.yaml'}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
        f"--query.lookback-delta={round(lookback_seconds * 1000)}ms",
        "--log.level=warn",
    ]
    with running(command, port, folder / "prometheus.log"):
        server = Prometheus(f"http://127.0.0.1:{port}", folder / "prometheus.log")
        _wait_until_ready(server.url)
        yield server


def _wait_until_ready(url: str) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while True:
        with contextlib.suppress(OSError), urllib.request.urlopen(f"{url}/-/ready", timeout=5):
            return
        assert time.monotonic() < deadline, "Prometheus is not ready"
        time.sleep(0.05)
