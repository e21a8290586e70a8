"""templates/NOTES.txt: what to type next. Helm shows it only while it installs, so it is rendered as an object here."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from tests.charts.rendering import Chart, Object, find


@pytest.fixture
def shown(chart: Chart, tmp_path: Path) -> Chart:
    """The chart with its notes in a ConfigMap."""
    copy = tmp_path / "gpt-run"
    shutil.copytree(chart.path, copy)
    notes = (copy / "templates" / "NOTES.txt").read_text()
    (copy / "notes.txt").write_text(notes)
    (copy / "templates" / "NOTES.txt").unlink()
    (copy / "templates" / "notes.yaml").write_text(
        "kind: ConfigMap\nmetadata: {name: notes}\ndata:\n  notes: |\n"
        '    {{- tpl (.Files.Get "notes.txt") . | nindent 4 }}\n'
    )
    return Chart(chart.helm, chart.folder, copy)


def notes(shown: Chart, values: Object | None = None) -> str:
    text: str = find(shown.render(values), "ConfigMap", "notes")["data"]["notes"]
    return text


def test_default_says_how_to_watch_scale_suspend_and_remove(shown: Chart) -> None:
    text = notes(shown, {"gpu": {"perWorker": 8, "pricePerHour": 0.99}})
    assert text.startswith("Run demo: 2 workers (1 to 4) of 8 GPUs, 15.84 USD an hour, store s3://bucket/runs/demo\n")
    assert "kubectl scale pytorchjob/demo -n default --replicas=4" in text
    patch = """kubectl patch pytorchjob/demo -n default --type=merge -p '{"spec":{"runPolicy":{"suspend":true}}}'"""
    assert patch in text
    assert "helm uninstall demo -n default" in text
    # Comment, blank or command: no template left a trace.
    assert not re.search(r"\{\{|<no value>|%!", text)


def test_switched(shown: Chart) -> None:
    ray = notes(shown, {"backend": "rayjob", "gpu": {"perWorker": None}, "lifecycle": {"suspend": True}})
    assert "on CPUs" in ray
    assert "It is suspended" in ray
    assert "kubectl scale" not in ray
    assert """kubectl patch rayjob/demo -n default --type=merge -p '{"spec":{"suspend":true}}'""" in ray
    more = {
        "policy": {"enabled": True},
        "jobs": {"tensorboard": {"enabled": True}},
        "monitoring": {"serviceMonitor": {"enabled": True}},
    }
    text = notes(shown, more)
    assert "kubectl scale trainingrun/demo" in text
    assert "service/demo-tensorboard 6006" in text
    assert 'run="demo"' in text


def test_refused_values_show_no_notes(shown: Chart) -> None:
    assert "Run demo" not in shown.refusal({"store": {"url": ""}})
