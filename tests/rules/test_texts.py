"""What every rule and alert must have: PromQL that parses, known metrics, texts, severities, and a runbook each."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import promql_parser
import pytest

from operators.metrics import Metrics
from tests.charts.rendering import Chart
from tests.rules.promtool import Promtool
from tests.rules.rendering import RUNBOOKS, Group, alerts, platform_rules, rules, run_rules, write_rules
from tests.rules.simulated import at, simulate
from tests.tools.prometheus import Programs
from trainer.metrics.catalogue import METRICS

# Of dcgm-exporter, kube-state-metrics, Prometheus itself and the operator.
OTHERS = {"DCGM_FI_DEV_GPU_UTIL", "DCGM_FI_DEV_XID_ERRORS", "kube_deployment_spec_replicas", "up"}
OTHERS |= {sample.name for family in Metrics().registry.collect() for sample in family.samples}
OTHERS |= {"gptrun_operator_actions_total"}  # has no series before the first action
URL = "https://github.com/gpt-run/gpt-run/blob/main/docs/runbooks"
SECTIONS = ["What it means", "What to look at", "What to do"]


@pytest.mark.parametrize("scale", [1, 0.01, 0.0001])
def test_promtool_takes_the_rules_of_both_charts(
    programs: Programs, helm: Path, chart: Chart, tmp_path: Path, scale: float
) -> None:
    for groups in (platform_rules(helm, scale=scale), run_rules(chart, release="demo", scale=scale)):
        file = write_rules(groups, tmp_path / "rules.yaml")
        result = subprocess.run(
            [programs.promtool, "check", "rules", file], capture_output=True, text=True, check=False
        )
        assert result.returncode == 0, result.stdout + result.stderr
        assert not re.search("<[a-z0-9 ]+>", file.read_text()), "a placeholder is left"


def test_every_expression_parses(groups: list[Group]) -> None:
    for rule in rules(groups):
        promql_parser.parse(rule["expr"])


def test_every_metric_exists(groups: list[Group]) -> None:
    recorded = {rule["record"] for rule in rules(groups) if "record" in rule}
    for rule in rules(groups):
        unknown = metric_names(rule["expr"]) - set(METRICS) - recorded - OTHERS
        assert not unknown, f"{rule.get('alert', rule.get('record'))}: {unknown}"


def test_one_runs_rules_speak_of_no_other(chart: Chart) -> None:
    """Every series of the run's own rules is picked by name and namespace, and what they record they also find."""
    groups = run_rules(chart, release="demo")
    recorded = {rule["record"] for rule in rules(groups) if "record" in rule}
    for rule in rules(groups):
        assert not metric_names(rule["expr"]) - set(METRICS) - recorded
        selectors = re.findall(r"(?:trainer_|run:)\w[\w:]*(\{[^}]*\})?", rule["expr"])
        assert all('namespace="default", run="demo"' in found for found in selectors), rule["expr"]


def test_a_run_has_the_alerts_of_the_platform_but_for_hardware_and_operator(chart: Chart, groups: list[Group]) -> None:
    missing = alerts(groups).keys() - alerts(run_rules(chart, release="demo")).keys()
    assert missing == {"GptRunGpuIdle", "GptRunNewXid", "GptRunOperatorNotActing", "GptRunOperatorErrors"}


def test_every_alert_says_what_where_and_what_to_do(groups: list[Group]) -> None:
    for name, rule in alerts(groups).items():
        assert rule["labels"]["severity"] in ("critical", "warning"), name
        texts = rule["annotations"]
        assert texts["runbook_url"] == f"{URL}/{name}.md"
        assert "$labels." in texts["summary"], name
        assert "$labels." in texts["description"], name
        assert "$value" in texts["description"] or "== 1" in rule["expr"], f"{name} says no value"
        assert len(texts["summary"]) < 100, name


def test_every_alert_has_its_runbook(groups: list[Group]) -> None:
    pages = {page.stem: page.read_text() for page in RUNBOOKS.glob("*.md") if page.stem != "README"}
    assert pages.keys() == alerts(groups).keys()
    index = (RUNBOOKS / "README.md").read_text()
    recorded = {rule["record"] for rule in rules(groups) if "record" in rule}
    for name, text in pages.items():
        assert text.startswith(f"# {name}\n")
        assert re.findall(r"^## (.*)$", text, re.MULTILINE) == SECTIONS, name
        assert f"| [{name}]({name}.md) | {alerts(groups)[name]['labels']['severity']} |" in index
        for query in re.findall(r"(?s)```promql\n(.*?)```", text):
            promql_parser.parse(query)
            assert not metric_names(query) - set(METRICS) - recorded - OTHERS


def test_texts_are_filled_in(promtool: Promtool) -> None:
    samples = simulate(80, at(60, lambda run: setattr(run, "stepping", False)))
    promtool.texts(
        samples,
        "GptRunStalled",
        72,
        {"severity": "critical", "namespace": "team", "run": "demo"},
        summary="Run demo has made no step for 12m 0s",
        description="Run demo in namespace team has workers, but its last step, or its start, is 12m 0s ago.",
        runbook_url=f"{URL}/GptRunStalled.md",
    )


def metric_names(expression: str) -> set[str]:
    """The metrics that an expression reads."""
    found: set[str] = set()

    def look(node: promql_parser.Expr) -> None:
        if isinstance(node, promql_parser.VectorSelector):
            found.add(node.name)

    promql_parser.walk(promql_parser.parse(expression), look)
    return found
