"""templates/networkpolicy.yaml."""

from __future__ import annotations

import pytest

from tests.charts.rendering import Chart, Object, environment, worker


def ports(policy: Object) -> list[list[int] | None]:
    return [[port["port"] for port in rule["ports"]] if "ports" in rule else None for rule in policy["spec"]["ingress"]]


def test_default(chart: Chart) -> None:
    policy = chart.one("NetworkPolicy")
    assert policy["spec"]["policyTypes"] == ["Ingress"]
    assert ports(policy) == [None, [29480]]


def test_switched(chart: Chart) -> None:
    monitoring = [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}]
    values = {"network": {"policy": {"from": monitoring}}, "jobs": {"tensorboard": {"enabled": True}}}
    policy = chart.one("NetworkPolicy", values=values)
    assert policy["spec"]["ingress"][1]["from"] == monitoring
    assert ports(policy) == [None, [29480, 6006]]
    assert ports(chart.one("NetworkPolicy", values={"network": {"policy": {"from": []}}})) == [None]
    assert ports(chart.one("NetworkPolicy", values={"backend": "rayjob"})) == [None, [29480], [8265]]
    without = {"network": {"policy": {"enabled": False}, "hostNetwork": True}}
    assert "NetworkPolicy/demo" not in chart.kinds(without)
    pod = worker(chart.one("PyTorchJob", values=without))["spec"]
    assert (pod["hostNetwork"], pod["dnsPolicy"]) == (True, "ClusterFirstWithHostNet")


def test_refused_where_it_would_cut_the_run_apart(chart: Chart) -> None:
    assert "network.policy.enabled" in chart.refusal({"network": {"hostNetwork": True}})


@pytest.mark.parametrize(("backend", "kind"), [("pytorchjob", "PyTorchJob"), ("rayjob", "RayJob")])
def test_a_worker_on_the_nodes_network_knows_its_pod(chart: Chart, backend: str, kind: str) -> None:
    values = {"backend": backend, "network": {"policy": {"enabled": False}, "hostNetwork": True}}
    pod = worker(chart.one(kind, values=values))
    assert pod["spec"]["hostNetwork"]
    assert environment(pod)["GPTRUN_POD"] == "metadata.name"
