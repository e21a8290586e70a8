"""templates/tests/preflight.yaml: `helm test`."""

from __future__ import annotations

from tests.charts.rendering import Chart, container, find


def test_default_asks_what_the_hook_asked(chart: Chart) -> None:
    objects = chart.render()
    pod = find(objects, "Pod", "demo-preflight-test")
    assert pod["metadata"]["annotations"]["helm.sh/hook"] == "test"
    hook = find(objects, "Job", "demo-preflight")["spec"]["template"]
    assert container(pod)["command"] == container(hook)["command"]
    assert pod["spec"]["serviceAccountName"] == "demo"
    assert pod["spec"]["volumes"][0]["configMap"] == {"name": "demo-run"}


def test_switched_without_the_hook(chart: Chart) -> None:
    assert "Pod/demo-preflight-test" in chart.kinds({"jobs": {"preflight": {"enabled": False}}})


def test_refused(chart: Chart) -> None:
    assert "/jobs/tolerations" in chart.refusal({"jobs": {"tolerations": ["all"]}})
