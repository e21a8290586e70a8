"""Parts of the process that stand alone: arguments, log lines, metrics, the age of the definition."""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from copy import deepcopy

import pytest
from aiohttp import ClientSession

from operators import crd
from operators.caches import Caches
from operators.crd_age import missing_fields
from operators.logs import Json
from operators.metrics import Metrics, serve
from operators.records import run_record
from operators.settings import from_arguments
from tests.ipv6 import needs_ipv6
from tests.unit.operators.objects import RUN, changed, named
from trainer.addresses import joined


def test_arguments() -> None:
    found = from_arguments([])
    assert (found.status_interval_seconds, found.poll_seconds, found.metrics_port, found.log_format) == (
        30,
        10,
        9090,
        "json",
    )
    assert found.identity
    assert from_arguments(["--namespace", "team", "--identity", "a"]).namespace == "team"


@pytest.mark.parametrize("words", [["--poll-seconds", "0"], ["--log-format", "xml"], ["--poll-seconds", "nan"]])
def test_wrong_arguments(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        from_arguments(words)
    assert ended.value.code == 2
    assert words[0] in capsys.readouterr().err


def test_log_lines() -> None:
    record = logging.LogRecord("operators", logging.INFO, "", 0, "scaled %s", ("demo",), None)
    record.namespace, record.run = "runs", "demo"
    line = json.loads(Json().format(record))
    assert line.pop("time").endswith("+00:00")
    assert line == {"level": "info", "message": "scaled demo", "namespace": "runs", "run": "demo"}
    try:
        raise ValueError("broken")
    except ValueError:
        record.exc_info = sys.exc_info()
    assert "ValueError: broken" in json.loads(Json().format(record))["error"]


def scrape(metrics: Metrics, *, healthy: bool = True, host: str = "127.0.0.1") -> tuple[str, int]:
    async def ask() -> tuple[str, int]:
        runner, port = await serve(metrics, 0, lambda: healthy)
        try:
            async with ClientSession() as session:
                async with session.get(f"http://{joined(host, port)}/metrics") as answer:
                    text = await answer.text()
                async with session.get(f"http://{joined(host, port)}/healthz") as answer:
                    return text, answer.status
        finally:
            await runner.cleanup()

    return asyncio.run(ask())


@needs_ipv6
def test_metrics_are_served_to_a_cluster_of_ipv6() -> None:
    text, status = scrape(Metrics(), host="::1")
    assert "gptrun_operator_leader 0.0" in text
    assert status == 200


def test_metrics() -> None:
    metrics = Metrics()
    caches = Caches(lambda *_: None)
    leads = [False]
    metrics.follow(caches, lambda: leads[0])
    caches.put(run_record(RUN))
    caches.put(run_record(changed(named(RUN, "b", "b"), "status", to={"phase": "Running"})))
    metrics.actions.labels("Scale", "OutOfBounds").inc()
    text, status = scrape(metrics)
    assert status == 200
    assert "gptrun_operator_runs{" not in text, "one that stands by counts none: sums would be twice as much"
    assert 'gptrun_operator_actions_total{action="Scale",reason="OutOfBounds"} 1.0' in text
    leads[0] = True
    text, status = scrape(metrics, healthy=False)
    assert status == 503
    assert 'gptrun_operator_runs{phase="Running"} 1.0' in text
    assert 'gptrun_operator_runs{phase="Failed"} 0.0' in text
    for name in ("decision_seconds_bucket", "reconcile_errors_total", "leader", "coordinator_polls_total"):
        assert f"\ngptrun_operator_{name}" in text


def test_an_older_definition_is_noticed() -> None:
    own = crd.document()
    schema = deepcopy(own["spec"]["versions"][0]["schema"]["openAPIV3Schema"])
    served = {"components": {"schemas": {"io.gptrun.v1alpha1.TrainingRun": schema}}}
    assert missing_fields(served, own) == []
    del schema["properties"]["spec"]["properties"]["hang"]["properties"]["action"]
    del schema["properties"]["status"]["properties"]["goodput"]
    assert missing_fields(served, own) == ["spec.hang.action", "status.goodput"]
