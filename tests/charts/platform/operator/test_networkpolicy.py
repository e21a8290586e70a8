"""templates/operator/networkpolicy.yaml of the platform."""

from __future__ import annotations

import pytest

from tests.charts.rendering import Chart, Object

COORDINATORS = {"matchLabels": {"gptrun.io/component": "coordinator"}}
MONITORING = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}


def policy(platform: Chart, **values: object) -> Object:
    spec: Object = platform.one("NetworkPolicy", "demo-operator", {"operator": values})["spec"]
    return spec


def test_default(platform: Chart, chart: Chart) -> None:
    spec = policy(platform)
    pod = platform.one("Deployment", "demo-operator")["spec"]["template"]
    assert spec["podSelector"]["matchLabels"].items() <= pod["metadata"]["labels"].items()
    assert spec["ingress"] == [{"from": [{"namespaceSelector": {}}], "ports": [{"port": 9090}]}]
    api, coordinators, dns = spec["egress"]
    assert api == {"ports": [{"port": 443}, {"port": 6443}]}
    # 5353 is where OpenShift's DNS pods listen.
    assert dns == {
        "ports": [{"port": port, "protocol": protocol} for port in (53, 5353) for protocol in ("UDP", "TCP")]
    }
    assert coordinators == {
        "ports": [{"port": 29480}],
        "to": [{"namespaceSelector": {}, "podSelector": COORDINATORS}],
    }
    labels = chart.one("Deployment", "demo-coordinator")["spec"]["template"]["metadata"]["labels"]
    assert COORDINATORS["matchLabels"].items() <= labels.items()


def test_switched(platform: Chart) -> None:
    address = {"ipBlock": {"cidr": "10.0.0.1/32"}}
    network = {"metricsFrom": [MONITORING], "apiServer": [address], "apiServerPorts": [8443]}
    spec = policy(platform, namespace="team-a", networkPolicy=network)
    assert spec["ingress"][0]["from"] == [MONITORING]
    assert spec["egress"][0] == {"ports": [{"port": 8443}], "to": [address]}
    namespace = {"matchLabels": {"kubernetes.io/metadata.name": "team-a"}}
    assert spec["egress"][1]["to"] == [{"namespaceSelector": namespace, "podSelector": COORDINATORS}]


def test_switched_to_nobody(platform: Chart) -> None:
    assert policy(platform, networkPolicy={"metricsFrom": []})["ingress"] == []
    assert "NetworkPolicy/demo-operator" not in platform.kinds({"operator": {"networkPolicy": {"enabled": False}}})


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"apiServerPorts": []}, "/operator/networkPolicy/apiServerPorts"),
        ({"apiServerPorts": [0]}, "/operator/networkPolicy/apiServerPorts/0"),
        ({"metricsFrom": [{"namespace": "monitoring"}]}, "namespace"),
    ],
)
def test_refused(platform: Chart, values: Object, words: str) -> None:
    assert words in platform.refusal({"operator": {"networkPolicy": values}})
