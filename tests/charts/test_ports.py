"""Who may reach which port of a pod, as the rendered NetworkPolicies say: every port is in one, or open on purpose.

The cluster tests have no agent that enforces policies, so no pod can try to connect (docs/security.md): this reads what
an enforcing network plug-in would be given.
"""

from __future__ import annotations

import pytest

from tests.charts.rendering import RELEASE, Chart, Object, pods
from tests.charts.test_standards import EVERYTHING

# Component -> ports that others than the run's own pods may reach, and who.
FROM_ELSEWHERE = {
    "pytorchjob": {29480: "network.policy.from", 6006: "network.policy.from"},
    "rayjob": {29480: "network.policy.from", 6006: "network.policy.from", 8265: "network.policy.rayFrom"},
}
MONITORING = [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}]
KUBERAY = [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "kuberay"}}}]


def selects(selector: Object, labels: dict[str, str]) -> bool:
    """Whether a pod selector of a policy means a pod."""
    assert set(selector) <= {"matchLabels"}
    return all(labels.get(key) == value for key, value in selector.get("matchLabels", {}).items())


def policies(objects: list[Object]) -> list[Object]:
    return [node for node in objects if node["kind"] == "NetworkPolicy"]


@pytest.mark.parametrize("backend", FROM_ELSEWHERE)
def test_every_pod_of_a_run_is_under_its_policy(chart: Chart, backend: str) -> None:
    objects = chart.render(EVERYTHING | {"backend": backend})
    (policy,) = policies(objects)
    found = [(pod, node) for node in objects for pod in pods(node)]
    assert len(found) > 5
    for pod, node in found:
        labels = pod["metadata"]["labels"]
        assert selects(policy["spec"]["podSelector"], labels), f"{node['kind']}/{node['metadata']['name']}"
        assert not pod["spec"].get("hostNetwork"), "policies do not hold for the nodes' network"


@pytest.mark.parametrize("backend", FROM_ELSEWHERE)
def test_ports_that_others_may_reach_are_those_named_here(chart: Chart, backend: str) -> None:
    values = EVERYTHING | {"backend": backend, "network": {"policy": {"from": MONITORING, "rayFrom": KUBERAY}}}
    (policy,) = policies(chart.render(values))
    own = {"podSelector": {"matchLabels": {"app.kubernetes.io/instance": RELEASE}}}
    opened: dict[int, str] = {}
    for rule in policy["spec"]["ingress"]:
        if rule["from"] == [own]:
            continue
        who = {str(MONITORING): "network.policy.from", str(KUBERAY): "network.policy.rayFrom"}[str(rule["from"])]
        assert rule.get("ports"), f"all ports are open to {rule['from']}"
        opened |= {port["port"]: who for port in rule["ports"]}
    assert opened == FROM_ELSEWHERE[backend]


def test_only_the_runs_own_pods_reach_the_rounds_and_the_workers(chart: Chart) -> None:
    """29400, torch's stores and gloo's and NCCL's ports: whoever reaches these can run code in workers."""
    objects = chart.render(EVERYTHING)
    (policy,) = policies(objects)
    listed = {
        port["containerPort"]
        for node in objects
        for pod in pods(node)
        for container in pod["spec"]["containers"]
        for port in container.get("ports", [])
    }
    open_ports = {port["port"] for rule in policy["spec"]["ingress"] for port in rule.get("ports", [])}
    assert 29400 in listed
    assert open_ports <= listed, "what is open is listened on"
    assert 29400 not in open_ports


def test_the_operator_hears_nobody_but_those_named_and_talks_to_few(platform: Chart) -> None:
    (policy,) = policies(platform.render({"operator": {"networkPolicy": {"enabled": True, "metricsFrom": MONITORING}}}))
    assert [(rule["from"], [port["port"] for port in rule["ports"]]) for rule in policy["spec"]["ingress"]] == [
        (MONITORING, [9090])
    ]
    reached = {port["port"] for rule in policy["spec"]["egress"] for port in rule["ports"]}
    assert reached - {29480, 53, 5353} <= {443, 6443}
