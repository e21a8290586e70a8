"""templates/jobs/preflight.yaml."""

from __future__ import annotations

from tests.charts.rendering import Chart, container


def test_default_comes_before_install_and_upgrade(chart: Chart) -> None:
    job = chart.one("Job", "demo-preflight")
    assert job["metadata"]["annotations"]["helm.sh/hook"] == "pre-install,pre-upgrade"
    # Helm prints what it said.
    assert job["metadata"]["annotations"]["helm.sh/hook-output-log-policy"] == "hook-failed"
    # What the user has to mend is said at once.
    assert job["spec"]["podFailurePolicy"]["rules"][0] == {
        "action": "FailJob",
        "onExitCodes": {"operator": "In", "values": [2]},
    }
    command = container(job["spec"]["template"])["command"]
    assert command == ["gpt-run", "preflight", "/etc/gpt-run/run.yaml", "--ranks", "4"]


def test_switched_asks_for_all_ranks_there_may_be(chart: Chart) -> None:
    values = {
        "workers": {"max": 3},
        "gpu": {"perWorker": 8},
        "jobs": {
            "preflight": {"activeDeadlineSeconds": 60},
            "nodeSelector": {"pool": "cpu"},
            "tolerations": [{"operator": "Exists"}],
            "resources": {"requests": {"cpu": 3}},
        },
    }
    job = chart.one("Job", "demo-preflight", values)
    pod = job["spec"]["template"]
    assert container(pod)["command"][-1] == "24"
    assert container(pod)["resources"]["requests"]["cpu"] == 3
    assert (pod["spec"]["nodeSelector"], pod["spec"]["tolerations"]) == ({"pool": "cpu"}, [{"operator": "Exists"}])
    assert job["spec"]["activeDeadlineSeconds"] == 60
    assert "Job/demo-preflight" not in chart.kinds({"jobs": {"preflight": {"enabled": False}}})


def test_refused(chart: Chart) -> None:
    assert "activeDeadlineSeconds" in chart.refusal({"jobs": {"preflight": {"activeDeadlineSeconds": 0}}})
