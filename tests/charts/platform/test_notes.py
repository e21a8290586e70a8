"""templates/NOTES.txt of the platform, rendered as an object: helm shows it only while it installs."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.charts.rendering import Chart, Object, find


@pytest.fixture
def shown(platform: Chart, tmp_path: Path) -> Chart:
    """The chart with its notes in a ConfigMap."""
    copy = tmp_path / "gpt-platform"
    shutil.copytree(platform.path, copy)
    (copy / "templates" / "NOTES.txt").rename(copy / "notes.txt")
    (copy / "templates" / "notes.yaml").write_text(
        "kind: ConfigMap\nmetadata: {name: notes}\ndata:\n  notes: |\n"
        '    {{- tpl (.Files.Get "notes.txt") . | nindent 4 }}\n'
    )
    return Chart(platform.helm, platform.folder, copy, {})


def notes(shown: Chart, values: Object | None = None) -> str:
    text: str = find(shown.render(values), "ConfigMap", "notes")["data"]["notes"]
    return text


def test_default_says_where_the_dashboards_are(shown: Chart) -> None:
    text = notes(shown)
    assert "kubectl get configmaps -n default -l grafana_dashboard=1,app.kubernetes.io/instance=demo" in text
    assert "twice" not in text


def test_default_says_who_looks_after_runs(shown: Chart) -> None:
    text = notes(shown)
    assert "every TrainingRun of all namespaces" in text
    assert "kubectl logs -n default deployment/demo-operator" in text
    assert "kubectl delete crd trainingruns.gptrun.io" in text
    assert "The API server refuses to scale" in text


def test_switched_parts(shown: Chart) -> None:
    text = notes(shown, {"operator": {"namespace": "team-a"}, "crds": {"enabled": False}, "guards": {"action": "Warn"}})
    assert "every TrainingRun of namespace team-a" in text
    assert "kubectl apply --server-side -f charts/gpt-platform/files/crds/trainingruns.gptrun.io.yaml" in text
    assert "lets pass, with guards.action=Warn, to scale" in text


def test_switched_off(shown: Chart) -> None:
    text = notes(shown, {name: {"enabled": False} for name in ("operator", "guards")} | {"crds": {"keep": False}})
    assert not any(word in text for word in ("TrainingRun", "suspend"))


def test_switched(shown: Chart) -> None:
    text = notes(
        shown, {"serviceMonitor": {"enabled": True, "namespaces": ["a", "b"]}, "dcgmCounters": {"enabled": True}}
    )
    assert "the namespaces a, b." in text
    assert "both together scrape a run twice" in text
    assert "--set dcgmExporter.config.name=gpt-run-dcgm-counters" in text
    assert "--configmap-data default:gpt-run-dcgm-counters" in text


def test_refused_values_show_no_notes(shown: Chart) -> None:
    assert "Grafana's sidecar loads" not in shown.refusal({"dashboards": {"labels": {"grafana_dashboard": None}}})
