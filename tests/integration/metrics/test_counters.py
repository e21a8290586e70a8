"""Counters of a run's life where machine and coordinator are lost together, and lines not yet uploaded with them."""

from __future__ import annotations

import time
import urllib.request
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.integration.metrics.conftest import MakeNodes
from tests.integration.nodes import Nodes
from tests.integration.servers import BUCKET, free_port, s3_environment, s3_server
from tests.integration.training import WAIT_SECONDS

COUNTERS = ("trainer_goodput_seconds_total", "trainer_gpu_seconds_total")
# More than a new attempt does until it is asked first.
EVERY_STEPS = 300
Counted = dict[tuple[str, str], float]


@pytest.mark.slow
def test_no_counter_of_the_runs_life_falls(make_nodes: MakeNodes, tmp_path: Path) -> None:
    port = free_port()
    nodes = make_nodes(checkpoint={"store": f"s3://{BUCKET}", "every_steps": EVERY_STEPS}, log={"every_steps": 5})
    with s3_server(tmp_path / "s3", port=port):
        machine = nodes.start(environment=s3_environment(port))
        before: Counted = {}
        for attempt in range(1, 4):
            wait_for(nodes, attempt, steps=1)
            counted = counted_by(nodes)
            assert counted.keys() >= before.keys()
            fallen = {key: (value, counted[key]) for key, value in before.items() if counted[key] < value}
            assert fallen == {}
            wait_for(nodes, attempt, steps=EVERY_STEPS * 4 // 5)
            before = counted_by(nodes)
            machine.power_off()
            nodes.coordinator.power_off()
            nodes.start_coordinator()
            machine = nodes.start(environment=s3_environment(port))


def wait_for(nodes: Nodes, attempt: int, *, steps: int) -> None:
    """Wait until an attempt has reported, and is so many steps past a checkpoint."""
    deadline = time.monotonic() + WAIT_SECONDS
    while True:
        status = nodes.status()
        reported = status["attempt"] == f"a{attempt:04d}" and status["goodput_seconds"]
        if reported and status["step"] > steps and status["step"] % EVERY_STEPS >= steps:
            return
        assert time.monotonic() < deadline, status
        time.sleep(0.02)


def counted_by(nodes: Nodes) -> Counted:
    """Seconds by counter and bucket, as /metrics tells them."""
    with urllib.request.urlopen(f"http://127.0.0.1:{nodes.http_port}/metrics", timeout=10) as answer:
        families = text_string_to_metric_families(answer.read().decode())
        samples = [sample for family in families for sample in family.samples if sample.name in COUNTERS]
    return {(sample.name, sample.labels["bucket"]): sample.value for sample in samples}
