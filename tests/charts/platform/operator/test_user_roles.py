"""templates/operator/user-roles.yaml of the platform."""

from __future__ import annotations

from tests.charts.platform.operator.test_rbac import granted
from tests.charts.rendering import Chart

ADMIN, EDIT, VIEW = (f"rbac.authorization.k8s.io/aggregate-to-{role}" for role in ("admin", "edit", "view"))


def test_default(platform: Chart) -> None:
    edit, view = (platform.one("ClusterRole", f"demo-{name}") for name in ("edit", "view"))
    assert {ADMIN, EDIT} <= edit["metadata"]["labels"].keys()
    assert VIEW not in edit["metadata"]["labels"]
    assert {ADMIN, EDIT, VIEW} <= view["metadata"]["labels"].keys()
    # `kubectl scale`, and nobody but the operator writes the status.
    assert granted(edit)["gptrun.io", "trainingruns/scale"] == ["update", "patch"]
    assert ("gptrun.io", "trainingruns/status") not in granted(edit)
    assert {verb for verbs in granted(view).values() for verb in verbs} == {"get", "list", "watch"}


def test_switched_off(platform: Chart) -> None:
    assert "ClusterRole/demo-edit" not in platform.kinds({"operator": {"rbac": {"aggregate": False}}})


def test_refused(platform: Chart) -> None:
    assert "/operator/rbac/aggregate" in platform.refusal({"operator": {"rbac": {"aggregate": "view"}}})
