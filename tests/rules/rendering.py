"""The rules that the charts ship, rendered as their users render them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

from charts.generator.manifests import KUBERNETES
from charts.generator.values import PLATFORM, ROOT
from tests.charts.rendering import Chart, find

Group = dict[str, Any]
Rule = dict[str, Any]

RUNBOOKS = ROOT / "docs" / "runbooks"


def platform_rules(helm: Path, *, scale: float = 1) -> list[Group]:
    """Those of charts/gpt-platform, for all runs."""
    values = json.dumps({"enabled": True, "durationScale": scale})
    arguments = ["--kube-version", KUBERNETES, "--show-only", "templates/prometheusrule.yaml"]
    result = Chart(helm, Path()).run("template", "platform", str(PLATFORM), *arguments, "--set-json", f"rules={values}")
    assert result.returncode == 0, result.stderr
    groups: list[Group] = yaml.safe_load(result.stdout)["spec"]["groups"]
    return groups


def run_rules(chart: Chart, *, release: str, scale: float = 1) -> list[Group]:
    """Those of charts/gpt-run, for one run."""
    values = {"monitoring": {"rules": {"enabled": True, "durationScale": scale}}}
    groups: list[Group] = find(chart.render(values, release=release), "PrometheusRule", release)["spec"]["groups"]
    return groups


def alerts(groups: list[Group]) -> dict[str, Rule]:
    """Alert -> rule."""
    return {rule["alert"]: rule for group in groups for rule in group["rules"] if "alert" in rule}


def rules(groups: list[Group]) -> list[Rule]:
    """All rules."""
    return [rule for group in groups for rule in group["rules"]]


def write_rules(groups: list[Group], file: Path) -> Path:
    """A rule file as Prometheus reads it."""
    file.write_text(yaml.safe_dump({"groups": groups}))
    return file
