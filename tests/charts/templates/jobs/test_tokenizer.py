"""templates/jobs/tokenizer.yaml."""

from __future__ import annotations

from tests.charts.rendering import Chart, container

VOLUME = {"url": "/store/runs", "volume": {"claimName": "disk"}}


def test_default_is_none(chart: Chart) -> None:
    assert "Job/demo-tokenizer" not in chart.kinds()


def test_switched(chart: Chart) -> None:
    job = chart.one("Job", "demo-tokenizer", {"store": VOLUME, "jobs": {"tokenizer": {"enabled": True}}})
    command = container(job["spec"]["template"])["command"]
    assert command == ["gpt-run", "tokenizer", "train", "python-library", "--output", "/store/tokenizer"]


def test_refused(chart: Chart) -> None:
    assert "jobs.tokenizer.output" in chart.refusal({"jobs": {"tokenizer": {"enabled": True}}})
