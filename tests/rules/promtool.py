"""Unit tests of rules by the real promtool."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.rules.rendering import Group, write_rules
from tests.rules.simulated import TICK_SECONDS, Samples

EVALUATION = "1m"


@dataclass(frozen=True)
class Promtool:
    """promtool with the rules under test."""

    program: Path
    folder: Path
    groups: list[Group]

    def firing(
        self, samples: Samples, moments: Mapping[float, str | tuple[str, ...]], *, ever: tuple[str, ...]
    ) -> None:
        """Assert which alerts fire at which minute, and that no others than `ever` fire at any time."""
        last = len(next(iter(samples.values()))) * TICK_SECONDS / 60
        tests = [
            _query('count by (alertname) (ALERTS{alertstate="firing"})', minute, dict.fromkeys(_names(firing), 1))
            for minute, firing in moments.items()
        ]
        everything = 'count by (alertname) (count_over_time(ALERTS{alertstate="firing"}[1d]) > bool 0 > 0)'
        tests.append(_query(f"{everything} > bool 0", last, dict.fromkeys(ever, 1)))
        self.check(samples, promql_expr_test=tests)

    def values(self, samples: Samples, query: str, moments: Mapping[float, Mapping[str, float]]) -> None:
        """Assert what a query answers at which minute: labels -> value."""
        tests = [
            {
                "expr": query,
                "eval_time": _minutes(minute),
                "exp_samples": [{"labels": labels, "value": value} for labels, value in found.items()],
            }
            for minute, found in moments.items()
        ]
        self.check(samples, promql_expr_test=tests)

    def texts(self, samples: Samples, alert: str, minute: float, labels: Mapping[str, str], **texts: str) -> None:
        """Assert that one alert fires then, with these labels and annotations."""
        expected = {"exp_labels": dict(labels), "exp_annotations": texts}
        test = {"eval_time": _minutes(minute), "alertname": alert, "exp_alerts": [expected]}
        self.check(samples, alert_rule_test=[test])

    def check(self, samples: Samples, **tests: Any) -> None:
        """Run promtool's tests."""
        series = [{"series": name, "values": _notation(values)} for name, values in samples.items()]
        rules = write_rules(self.groups, self.folder / "rules.yaml")
        file = self.folder / "test.yaml"
        one = {"interval": f"{TICK_SECONDS}s", "input_series": series, **tests}
        file.write_text(yaml.safe_dump({"rule_files": [str(rules)], "evaluation_interval": EVALUATION, "tests": [one]}))
        result = subprocess.run([self.program, "test", "rules", file], capture_output=True, text=True, check=False)
        assert result.returncode == 0, result.stdout + result.stderr


def _query(expression: str, minute: float, alerts: Mapping[str, float]) -> dict[str, Any]:
    samples = [{"labels": f'{{alertname="{name}"}}', "value": value} for name, value in alerts.items()]
    return {"expr": expression, "eval_time": _minutes(minute), "exp_samples": samples}


def _names(names: str | tuple[str, ...]) -> tuple[str, ...]:
    return (names,) if isinstance(names, str) else names


def _minutes(minute: float) -> str:
    return f"{round(minute * 60)}s"


def _notation(values: list[float | None]) -> str:
    """As promtool reads it; a series that ends is stale at once, as when its target is gone."""
    words = []
    there = False
    for value in values:
        words.append(("stale" if there else "_") if value is None else repr(float(value)))
        there = value is not None
    return " ".join(words)
