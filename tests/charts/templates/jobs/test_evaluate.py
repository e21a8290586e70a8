"""templates/jobs/evaluate.yaml."""

from __future__ import annotations

from tests.charts.rendering import Chart, Object, container

ON = {"enabled": True}


def evaluate_job(chart: Chart, **values: object) -> Object:
    objects = chart.render({"jobs": {"evaluate": ON | values}})
    return next(node for node in objects if node["metadata"]["name"].startswith("demo-evaluate-"))


def test_default_is_none(chart: Chart) -> None:
    assert not any("evaluate" in name for name in chart.kinds())


def test_switched(chart: Chart) -> None:
    job = evaluate_job(chart, resources={"limits": {"nvidia.com/gpu": 1}})
    trainer = container(job["spec"]["template"])
    command = ["gpt-run", "eval", "s3://bucket/runs/demo", "--watch", "--write", "validation"]
    assert (job["kind"], trainer["command"]) == ("Job", command)
    assert trainer["resources"]["limits"] == {"nvidia.com/gpu": 1}
    assert job["spec"]["template"]["spec"]["restartPolicy"] == "Never"
    assert [rule["action"] for rule in job["spec"]["podFailurePolicy"]["rules"]] == ["FailJob", "Ignore"]


def test_switched_to_more_than_the_loss(chart: Chart) -> None:
    job = evaluate_job(
        chart, name="wide", sequences=0, data=["/a", "s3://b"], hellaswag="/store/h.jsonl", prompts=["def ", "a, b"]
    )
    more = ["--sequences", "0", "--data", "/a", "--data", "s3://b", "--hellaswag", "/store/h.jsonl"]
    prompts = ["--prompt", "def ", "--prompt", "a, b"]
    assert container(job["spec"]["template"])["command"][5:] == ["wide", *more, *prompts]


def test_suspended_with_the_run(chart: Chart) -> None:
    objects = chart.render({"jobs": {"evaluate": ON}, "lifecycle": {"suspend": True}})
    (job,) = (node for node in objects if node["metadata"]["name"].startswith("demo-evaluate-"))
    assert job["spec"]["suspend"] is True
    # Which is no other Job: the suspension of one can be changed.
    assert job["metadata"]["name"] == evaluate_job(chart)["metadata"]["name"]


def test_another_run_file_is_another_job_for_the_one_before_may_be_complete(chart: Chart) -> None:
    longer = chart.render({"jobs": {"evaluate": ON}, "run": {"steps": 20}})
    assert evaluate_job(chart)["metadata"]["name"] not in {node["metadata"]["name"] for node in longer}


def test_refused(chart: Chart) -> None:
    assert "/jobs/evaluate/name" in chart.refusal({"jobs": {"evaluate": {"name": "a b"}}})
    assert "/jobs/evaluate/sequences" in chart.refusal({"jobs": {"evaluate": {"sequences": -1}}})
