"""templates/operator/rbac.yaml of the platform: what the operator may do, verb by verb."""

from __future__ import annotations

from tests.charts.rendering import Chart, Object

NODES = {("", "nodes"): ["list", "watch"]}
OF_RUNS = {
    ("gptrun.io", "trainingruns"): ["get", "list", "watch"],
    ("gptrun.io", "trainingruns/status"): ["patch"],
    ("kubeflow.org", "pytorchjobs"): ["list", "watch", "patch", "delete"],
    ("ray.io", "rayjobs"): ["list", "watch", "patch", "delete"],
    ("ray.io", "rayclusters"): ["patch"],
    ("", "pods"): ["list", "watch", "delete"],
    ("", "events"): ["create"],
}


def granted(role: Object) -> dict[tuple[str, str], list[str]]:
    """(group, resource) -> verbs."""
    return {
        (group, resource): rule["verbs"]
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
    }


def test_default_is_all_namespaces(platform: Chart) -> None:
    assert granted(platform.one("ClusterRole", "demo-operator")) == NODES | OF_RUNS
    made, renewed = platform.one("Role", "demo-lease")["rules"]
    assert (made["resources"], made["verbs"]) == (["leases"], ["create"])
    assert (renewed["resources"], renewed["verbs"]) == (["leases"], ["get", "patch"])
    assert renewed["resourceNames"] == ["demo-operator"]
    for kind, name in (("ClusterRole", "demo-operator"), ("Role", "demo-lease")):
        binding = platform.one(f"{kind}Binding", name)
        assert (binding["roleRef"]["kind"], binding["roleRef"]["name"]) == (kind, name)
        assert binding["subjects"] == [{"kind": "ServiceAccount", "name": "demo-operator", "namespace": "default"}]


def test_switched_to_one_namespace(platform: Chart) -> None:
    values = {"operator": {"namespace": "team-a"}}
    assert granted(platform.one("ClusterRole", "demo-operator", values)) == NODES
    role = platform.one("Role", "demo-operator", values)
    assert (role["metadata"]["namespace"], granted(role)) == ("team-a", OF_RUNS)
    binding = platform.one("RoleBinding", "demo-operator", values)
    assert binding["metadata"]["namespace"] == "team-a"
    assert platform.one("Role", "demo-lease", values)["metadata"]["namespace"] == "default"


def test_switched_off(platform: Chart) -> None:
    left = platform.kinds({"operator": {"rbac": {"create": False, "aggregate": False}}})
    assert not [name for name in left if name.split("/")[0].removesuffix("Binding") in ("Role", "ClusterRole")]


def test_refused(platform: Chart) -> None:
    assert "/operator/namespace" in platform.refusal({"operator": {"namespace": "a, b"}})
