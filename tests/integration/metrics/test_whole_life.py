"""A run that is killed, scaled and resumed, and whose coordinator is replaced, as a real Prometheus saw it.

One run for all tests of this file: what is asked afterwards is what users, dashboards and rules ask.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from charts.generator.pictures.__main__ import FOLDER, variables
from charts.generator.pictures.prometheus import Prometheus as Asked
from charts.generator.pictures.prometheus import Span
from tests.integration.metrics.scraping import Prometheus, prometheus
from tests.integration.nodes import Nodes
from tests.integration.servers import go_tool
from tests.integration.training import Training
from tests.rules.rendering import platform_rules
from trainer.metrics.catalogue import METRICS

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

BOARDS: dict[str, Any] = {file.stem: json.loads(file.read_text()) for file in sorted(FOLDER.glob("*.json"))}
COUNTERS = [name for name, metric in METRICS.items() if metric.kind == "counter"]
OF_THE_RUNS_LIFE = {"trainer_goodput_seconds_total", "trainer_gpu_seconds_total"}
MOST_SERIES = 200
# The run is charged with a dollar per worker and second.
PRICE = 3600.0
SETTINGS = {
    "steps": 1_000_000,
    "checkpoint": {"every_steps": 25, "keep": {"rolling": 3}},
    "evaluate": {"every_steps": 40, "sequences": 8},
    "log": {"every_steps": 2, "profile_seconds": 1.0},
    "cost": {"price_per_gpu_hour": PRICE},
    "elastic": {"budget": {"failures": 100}},
}


@dataclass(frozen=True)
class Life:
    """What is left of the run."""

    training: Training
    server: Prometheus
    began: float
    ended: float
    """Seconds since the epoch."""
    status: dict[str, Any]
    """The last before its coordinator ended."""


@pytest.fixture(scope="module")
def life(tmp_path_factory: pytest.TempPathFactory, dataset: Path) -> Iterator[Life]:
    folder = tmp_path_factory.mktemp("life")
    data = {"train": str(dataset), "validation": str(dataset)}
    nodes = Nodes(Training(folder / "run", dataset, SETTINGS | {"data": data}), nodes="1:2")
    groups = platform_rules(go_tool("helm"), scale=0.01)
    with contextlib.closing(_Closing(nodes)), prometheus(folder / "prometheus", [nodes.http_port], groups) as server:
        began = time.time()
        first = nodes.start()
        nodes.wait_for_steps("a0001", 40)
        second = nodes.start()  # scaled up
        nodes.wait_for_steps("a0002", 40)
        first.workers()[0].kill()
        nodes.wait_for_steps("a0003", 40)
        nodes.coordinator.power_off()
        nodes.start_coordinator()  # the workers never noticed
        nodes.wait_for_steps("a0003", 120)
        second.power_off()  # a machine is lost
        nodes.wait_for_steps("a0004", 40)
        first.popen.terminate()  # suspended for a while
        assert first.wait() == 75
        time.sleep(3)
        last = nodes.start()
        nodes.wait_for_steps("a0005", 60)
        status = nodes.status()
        last.popen.terminate()
        assert last.wait() == 75
        time.sleep(1)  # a last scrape
        yield Life(nodes.training, server, began, time.time(), status)


def needs_more(expr: str) -> bool:
    """Whether a query asks for what only a machine with a GPU or a cluster with the operator has; these are tested on a
    recording that is made up, in tests/charts/pictures.
    """
    return re.search(r"DCGM_|trainer_gpu_(?!seconds)|mfu_ratio|gpu_utilization|gptrun_operator_", expr) is not None


class _Closing:
    def __init__(self, nodes: Nodes) -> None:
        self.close = nodes.end


def test_it_had_the_faults_it_was_given(life: Life) -> None:
    reasons = [(claim["previous_end"] or {}).get("reason") for claim in life.training.claims()]
    assert reasons[:4] == [None, "Scaled", "WorkerFailed", "NodeLost"]
    assert len(reasons) == 5


@pytest.mark.parametrize("uid", BOARDS)
def test_every_query_of_every_panel_gives_data(life: Life, uid: str) -> None:
    chosen = ["run=small", "run_a=small", "run_b=small"]
    span = Span(life.began, life.ended, 1.0)
    asked = Asked(life.server.url, span, variables(BOARDS[uid], chosen))
    targets = [target for panel in BOARDS[uid]["panels"] for target in panel.get("targets", [])]
    empty = [target["expr"] for target in targets if not any(item.points for item in asked.series(target, ""))]
    assert [expr for expr in empty if not needs_more(expr)] == []
    assert len(empty) < len(targets)


def test_every_rule_is_evaluated(life: Life) -> None:
    rules = [rule for group in life.server.rules() for rule in group["rules"]]
    assert rules
    assert [(rule["name"], rule.get("lastError")) for rule in rules if rule["health"] != "ok"] == []


def test_recorded_series_have_data(life: Life) -> None:
    rules = [rule for group in life.server.rules() for rule in group["rules"] if rule["type"] == "recording"]
    seen = {rule["name"] for rule in rules if life.server.query(f"count_over_time({rule['name']}[1h])")}
    assert seen
    assert all(needs_more(rule["query"]) for rule in rules if rule["name"] not in seen)


@pytest.mark.parametrize("name", COUNTERS)
def test_no_counter_falls_but_where_the_coordinator_was_replaced(life: Life, name: str) -> None:
    for labels, points in life.server.samples(name):
        falls = [(before, after) for before, after in itertools.pairwise(points) if after < before]
        assert len(falls) <= (0 if name in OF_THE_RUNS_LIFE else 1), (labels, falls)


def test_a_scrape_stays_small_over_attempts(life: Life) -> None:
    ((_, most),) = life.server.query("max_over_time(scrape_samples_scraped[1h])")
    assert most <= MOST_SERIES


def test_the_account_adds_up_to_the_wall_time(life: Life) -> None:
    lines = [
        json.loads(line)
        for file in sorted(life.training.run.glob("logs/*/performance-*.jsonl"))
        for line in file.read_text().splitlines()
    ]
    for line in lines:
        # The run begins with its launcher, which takes a moment to come up after the clock was read.
        wall = datetime.fromisoformat(line["time"]).timestamp() - life.began
        assert sum(line["goodput_seconds"].values()) == pytest.approx(wall, rel=0.01, abs=0.3), line["attempt"]
    last = lines[-1]
    assert last["goodput_seconds"]["wasted_progress"] > 0
    assert last["goodput_seconds"]["infra_recovery"] > 3
    assert last["lost_gpu_seconds"] > last["gpu_seconds"]["wasted_progress"]


def test_counters_of_time_say_what_the_files_say(life: Life) -> None:
    counted = {labels["bucket"]: points[-1] for labels, points in life.server.samples("trainer_goodput_seconds_total")}
    files = sorted(life.training.run.glob("logs/*/performance-*.jsonl"))
    written = json.loads(files[-1].read_text().splitlines()[-1])["goodput_seconds"]
    # The coordinator counts the time after the last attempt, too.
    assert {name: counted[name] for name in written if name not in ("infra_recovery", "other")} == pytest.approx(
        {name: seconds for name, seconds in written.items() if name not in ("infra_recovery", "other")}, abs=1.0
    )
    assert counted["infra_recovery"] >= written["infra_recovery"]


def test_status_tells_time_and_cost(life: Life) -> None:
    status = life.status
    assert status["phase"] in ("training", "evaluating", "saving")
    gpu_seconds = status["cost"]["spent"]  # at a dollar each
    assert gpu_seconds > sum(status["goodput_seconds"].values()) * 0.9
    assert 0 < status["cost"]["lost"] < status["cost"]["spent"]
    assert status["cost"]["currency"] == "USD"
    assert status["cost"]["per_billion_tokens"] == pytest.approx(gpu_seconds / status["tokens"] * 1e9, rel=0.01)


def test_events_name_what_happened(life: Life) -> None:
    files = sorted(life.training.run.glob("logs/*/events-*.jsonl"))
    events = [json.loads(line) for file in files for line in file.read_text().splitlines()]
    attempts = [event for event in events if event["kind"] == "attempt"]
    assert [event["reason"] for event in attempts][:4] == [None, "Scaled", "WorkerFailed", "NodeLost"]
    saved = {event["message"] for event in events if event["kind"] == "checkpoint"}
    assert {*life.training.checkpoints()} <= saved
    assert events[-1]["kind"] == "stopped"
