"""templates/jobs/prepare.yaml."""

from __future__ import annotations

from tests.charts.rendering import Chart, container, find

VOLUME = {"url": "/store/runs", "volume": {"claimName": "disk"}}
PIPELINE = {"name": "books", "sources": [{"type": "text", "path": "/store/books"}]}


def test_default_is_none(chart: Chart) -> None:
    assert "Job/demo-prepare" not in chart.kinds()


def test_switched_a_shipped_pipeline(chart: Chart) -> None:
    job = chart.one("Job", "demo-prepare", {"store": VOLUME, "jobs": {"prepare": {"enabled": True}}})
    trainer = container(job["spec"]["template"])
    output = "/store/data/python-library"
    assert trainer["command"] == ["gpt-run", "data", "prepare", "python-library", "--output", output]
    assert {mount["mountPath"] for mount in trainer["volumeMounts"]} >= {"/store", "/tmp"}


def test_switched_a_pipeline_of_the_users(chart: Chart) -> None:
    prepare = {"enabled": True, "inlinePipeline": PIPELINE, "output": "/store/data/books"}
    objects = chart.render({"store": VOLUME, "jobs": {"prepare": prepare}})
    trainer = container(find(objects, "Job", "demo-prepare")["spec"]["template"])
    assert trainer["command"][3] == "/etc/gpt-run/prepare.yaml"
    assert "/etc/gpt-run/prepare.yaml" in {mount["mountPath"] for mount in trainer["volumeMounts"]}
    assert "name: books" in find(objects, "ConfigMap", "demo-hooks")["data"]["prepare.yaml"]


def test_comes_before_the_preflight_that_looks_for_its_data(chart: Chart) -> None:
    jobs = {"prepare": {"enabled": True}, "tokenizer": {"enabled": True}}
    objects = chart.render({"store": VOLUME, "jobs": jobs})
    order = [
        int(find(objects, kind, f"demo-{name}")["metadata"]["annotations"]["helm.sh/hook-weight"])
        for kind, name in (("ConfigMap", "hooks"), ("Job", "tokenizer"), ("Job", "prepare"), ("Job", "preflight"))
    ]
    assert order == sorted(set(order))


def test_refused_an_output_that_would_be_lost(chart: Chart) -> None:
    assert "jobs.prepare.output" in chart.refusal({"jobs": {"prepare": {"enabled": True}}})
    elsewhere = {"store": VOLUME, "jobs": {"prepare": {"enabled": True, "output": "/data"}}}
    assert 'jobs.prepare.output: "/data" is lost with its pod' in chart.refusal(elsewhere)
