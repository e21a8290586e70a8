"""Dashboard of all runs: tokens per second, goodput, utilization, idle GPUs, cost per day."""

from __future__ import annotations

from charts.generator.dashboards.board import NAMESPACE, RUNS, Board
from charts.generator.dashboards.panels import TOKENS_PER_SECOND, Column, Panel, Query, Row, amounts, lines, rows, stat
from charts.generator.dashboards.queries import RUNS as SELECTOR
from charts.generator.dashboards.queries import age, events, life, newest

_DAY_SECONDS = 86400
# Share of time below which a GPU does nothing worth its price.
_IDLE = 0.05


def board() -> Board:
    """The dashboard."""
    return Board(
        uid="gpt-run-fleet",
        title="gpt-run / Fleet",
        description="All runs: what they train, how well they use the GPUs, and what they cost.",
        variables=[NAMESPACE, RUNS],
        rows=[
            Row("Now", _now()),
            Row("Over time", _over_time()),
            Row("GPUs and money", _money()),
            Row("Operator", _operator()),
        ],
        since="now-24h",
    )


def _gpu_use(window: str = "") -> str:
    """Utilization of every GPU: all that dcgm-exporter sees, runs or not; without it, those of the runs."""
    dcgm, fill_in = "DCGM_FI_DEV_GPU_UTIL", f"trainer_gpu_utilization_ratio{{{SELECTOR}}}"
    if window:
        dcgm, fill_in = f"max_over_time({dcgm}[{window}])", f"max_over_time({fill_in}[{window}])"
    return f"max by (Hostname, gpu) ({dcgm}) / 100 or on () max by (node, gpu) ({fill_in})"


def _goodput() -> str:
    """Share of the GPU seconds of the last day that went into training which a checkpoint holds."""
    spent = f"sum ({life('trainer_gpu_seconds_total', SELECTOR, 'bucket', window='1d')})"
    useful = spent.replace(SELECTOR, f'{SELECTOR}, bucket="training"')
    return f"{useful} / ({spent} > 0)"


def _now() -> list[Panel]:
    return [
        stat(
            "Runs",
            "Runs by what they do now.",
            "short",
            Query(f"count by (phase) ({newest('trainer_phase', SELECTOR, 'phase')} == 1)", "{{phase}}"),
        ),
        stat(
            "Tokens per second",
            "Of all runs together, over wall time.",
            TOKENS_PER_SECOND,
            Query(f"sum (rate(trainer_tokens_total{{{SELECTOR}}}[5m]))"),
        ),
        stat("Workers", "Ranks of all runs: GPUs, or processes on CPUs.", "short", Query(f"sum ({_ranks()})")),
        stat(
            "Idle GPUs",
            "GPUs that ran a kernel in less than 5% of every sample of ten minutes. With dcgm-exporter all of the"
            " cluster count, without it only those that runs hold.",
            "short",
            Query(f"count(({_gpu_use('10m')}) < {_IDLE}) or 0 * count({_gpu_use('10m')})"),
            thresholds=((None, "green"), (1, "orange"), (8, "red")),
            runbook="GptRunGpuIdle",
        ),
        stat(
            "Goodput of the last day",
            "Share of the runs' GPU seconds, of the last day, that went into steps which a checkpoint holds.",
            "percentunit",
            Query(_goodput()),
            thresholds=((None, "red"), (0.8, "orange"), (0.95, "green")),
            decimals=1,
        ),
        stat(
            "Cost per day",
            "At the rate of the last hour.",
            "locale",
            Query(f"sum by (currency) ({_cost()}) * {_DAY_SECONDS}", "{{currency}}"),
            decimals=0,
        ),
        rows(
            "Runs",
            "Every run with a coordinator. A click on its name opens its dashboard.",
            f"{newest('trainer_phase', SELECTOR, 'phase')} == 1",
            Column("step", "none", newest("trainer_run_steps", SELECTOR)),
            Column("loss", "none", newest("trainer_loss", SELECTOR)),
            Column("tokens/s", TOKENS_PER_SECOND, newest("trainer_tokens_per_second", SELECTOR)),
            Column("MFU", "percentunit", newest("trainer_mfu_ratio", SELECTOR)),
            Column("workers", "none", _ranks()),
            Column("attempt", "none", newest("trainer_attempt", SELECTOR)),
            Column("goodput", "percentunit", newest("trainer_run_goodput_ratio", SELECTOR)),
            Column("checkpoint", "s", age("trainer_checkpoint_last_timestamp_seconds", SELECTOR)),
            Column("end", "dateTimeFromNow", f"{newest('trainer_eta_timestamp_seconds', SELECTOR)} * 1000"),
            Column("spent", "locale", newest("trainer_run_cost", SELECTOR)),
            Column("lost", "locale", newest("trainer_run_cost_lost", SELECTOR)),
        ),
    ]


def _over_time() -> list[Panel]:
    return [
        lines(
            "Tokens per second by run",
            "Over wall time, one above the other: the top is the cluster's.",
            TOKENS_PER_SECOND,
            Query(f"sum by (namespace, run) (rate(trainer_tokens_total{{{SELECTOR}}}[$__rate_interval]))", "{{run}}"),
            stacked=True,
        ),
        lines(
            "Goodput by run",
            "Share of each run's life that went into steps which a checkpoint holds.",
            "percentunit",
            Query(newest("trainer_run_goodput_ratio", SELECTOR), "{{run}}"),
            thresholds=((None, "red"), (0.8, "orange"), (0.95, "green")),
            most=1,
        ),
        lines(
            "Workers by run",
            "Ranks of each run, one above the other.",
            "short",
            Query(_ranks(), "{{run}}"),
            stacked=True,
        ),
        lines(
            "Restarts by run",
            "Attempts that ended, whatever the reason.",
            "short",
            Query(events("trainer_restarts_total", SELECTOR), "{{run}}"),
            thresholds=((None, "green"), (3, "red")),
            runbook="GptRunRestartStorm",
            bars=True,
            stacked=True,
        ),
    ]


def _money() -> list[Panel]:
    return [
        lines(
            "GPU utilization",
            "Mean, and the quarter that is used least: of all GPUs with dcgm-exporter, of the runs' without it.",
            "percentunit",
            Query(f"avg({_gpu_use()})", "mean"),
            Query(f"quantile(0.25, {_gpu_use()})", "lowest quarter"),
            thresholds=((None, "red"), (0.5, "orange"), (0.8, "green")),
            most=1,
        ),
        lines(
            "Idle GPUs",
            "GPUs that ran a kernel in less than 5% of every sample of ten minutes.",
            "short",
            Query(f"count(({_gpu_use('10m')}) < {_IDLE}) or 0 * count({_gpu_use('10m')})", "idle"),
            runbook="GptRunGpuIdle",
        ),
        amounts(
            "GPU hours of the last day",
            "By what they were for. What is neither training nor evaluation is the price of starts, saves and faults.",
            "h",
            Query(
                f"sort_desc(sum by (bucket) ({life('trainer_gpu_seconds_total', SELECTOR, 'bucket', window='1d')}) "
                f"* {_DAY_SECONDS} / 3600)",
                "{{bucket}}",
            ),
        ),
        lines(
            "Cost per day by run",
            "At the rate of the last hour, one above the other.",
            "locale",
            Query(f"{_cost()} * {_DAY_SECONDS}", "{{run}} ({{currency}})"),
            stacked=True,
            span=8,
        ),
        lines(
            "Lost to faults by run",
            "So far in each run's life: time without workers, steps done again, starting again.",
            "locale",
            Query(newest("trainer_run_cost_lost", SELECTOR, "currency"), "{{run}} ({{currency}})"),
            span=8,
        ),
    ]


def _operator() -> list[Panel]:
    """Of the whole cluster, whatever runs are chosen; empty without the operator."""
    return [
        stat(
            "Operators that act",
            "One of its replicas holds the Lease. 0: nobody looks after runs; they train all the same.",
            "short",
            Query("sum (gptrun_operator_leader)"),
            thresholds=((None, "red"), (1, "green"), (2, "red")),
        ),
        lines(
            "TrainingRuns by phase",
            "As the operator sees them, one above the other.",
            "short",
            Query("sum by (phase) (gptrun_operator_runs)", "{{phase}}"),
            stacked=True,
            span=10,
        ),
        lines(
            "What the operator did",
            "Scales, suspensions, pods replaced: each has an Event that says why.",
            "short",
            Query(
                "round(sum by (action, reason) (increase(gptrun_operator_actions_total[$__rate_interval])))",
                "{{action}}: {{reason}}",
            ),
            bars=True,
            stacked=True,
            span=10,
        ),
        lines(
            "From event to action",
            "Time from the event that made something necessary until it was done: 99 of 100 are below.",
            "s",
            Query(
                "histogram_quantile(0.99, "
                "sum by (le) (rate(gptrun_operator_event_to_action_seconds_bucket[$__rate_interval])))",
                "99th percentile",
            ),
            thresholds=((None, "green"), (2, "red")),
        ),
        lines(
            "The operator's trouble",
            "Looks at runs that failed and are tried again, and questions that a coordinator did not answer.",
            "short",
            Query("sum (increase(gptrun_operator_reconcile_errors_total[$__rate_interval]))", "failed looks"),
            Query(
                'sum by (outcome) (increase(gptrun_operator_coordinator_polls_total{outcome!="answered"}'
                "[$__rate_interval]))",
                "{{outcome}}",
            ),
        ),
    ]


def _ranks() -> str:
    return newest("trainer_world_size", SELECTOR)


def _cost() -> str:
    """Money per second of each run."""
    return life("trainer_run_cost", SELECTOR, "currency")
