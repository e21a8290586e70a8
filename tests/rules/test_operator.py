"""The alerts about the operator, on its metrics as two replicas serve them."""

from __future__ import annotations

import pytest

from tests.rules.promtool import Promtool
from tests.rules.simulated import TICK_SECONDS, Samples

MINUTES = 60
TICKS = MINUTES * 60 // TICK_SECONDS
FAILS_FROM, FAILS_TO = 20, 45
ACTING, ERRORS = "GptRunOperatorNotActing", "GptRunOperatorErrors"


def samples(trouble: str = "") -> Samples:
    """An hour of two replicas, of which `a` leads; trouble from minute 20 to 45."""
    found: Samples = {'kube_deployment_spec_replicas{namespace="sys",deployment="platform-operator"}': [2.0] * TICKS}
    for replica in ("a", "b"):
        leads = replica == "a"
        leader: list[float | None] = []
        last: list[float | None] = []
        errors: list[float | None] = []
        failed, passed = 0.0, 0.0
        for tick in range(TICKS):
            wrong = trouble if FAILS_FROM <= tick * TICK_SECONDS / 60 < FAILS_TO else ""
            if leads and wrong not in ("no-leader", "stuck", "gone"):
                passed = tick * TICK_SECONDS
            failed += {"failing": 1.0, "a-few": 0.2}.get(wrong, 0.0) if leads else 0.0
            here = wrong != "gone"
            leader.append(float(leads and wrong != "no-leader") if here else None)
            last.append(passed if here else None)
            errors.append(float(int(failed)) if here else None)
        labels = f'{{namespace="sys",pod="{replica}"}}'
        found[f"gptrun_operator_leader{labels}"] = leader
        found[f"gptrun_operator_last_pass_timestamp_seconds{labels}"] = last
        found[f"gptrun_operator_reconcile_errors_total{labels}"] = errors
    if trouble == "uninstalled":
        for name, values in found.items():
            found[name] = [
                value if tick * TICK_SECONDS / 60 < FAILS_FROM else None for tick, value in enumerate(values)
            ]
    return found


@pytest.mark.parametrize(
    ("trouble", "quiet", "fires", "resolved"),
    [("no-leader", 24, 26, 47), ("gone", 24, 26, 47), ("stuck", 34, 37, 47)],
)
def test_operator_not_acting(promtool: Promtool, trouble: str, quiet: int, fires: int, resolved: int) -> None:
    promtool.firing(samples(trouble), {quiet: (), fires: ACTING, resolved: ()}, ever=(ACTING,))


def test_operator_errors(promtool: Promtool) -> None:
    promtool.firing(samples("failing"), {24: (), 44: ERRORS, 59: ()}, ever=(ERRORS,))


@pytest.mark.parametrize("trouble", ["", "a-few", "uninstalled"])
def test_no_alert_fires(promtool: Promtool, trouble: str) -> None:
    promtool.firing(samples(trouble), {}, ever=())


def test_texts(promtool: Promtool) -> None:
    promtool.texts(
        samples("stuck"),
        ACTING,
        40,
        {"severity": "warning", "namespace": "sys"},
        summary="Nobody looks after TrainingRuns (operator in sys)",
        description="The operator in namespace sys does not act. Seconds since its last pass over a run, or 0 if no "
        "replica holds the Lease or answers: 1.23k. Runs train on.",
        runbook_url="https://github.com/gpt-run/gpt-run/blob/main/docs/runbooks/GptRunOperatorNotActing.md",
    )
