"""Dashboard of two runs, or more, by tokens instead of time: which learns more from the same text, and at what price?

Prometheus knows only time. A chart of y over x takes both from one row, so each panel asks for tokens and for the value
at the same moments and joins them (`panels.against`). One stat says the losses at equal tokens, found by PromQL alone.
"""

from __future__ import annotations

from charts.generator.dashboards.board import NAMESPACE, RUN, Board, Variable
from charts.generator.dashboards.panels import TOKENS_PER_SECOND, Column, Panel, Query, Row, against, rows, stat
from charts.generator.dashboards.queries import newest

_BOTH = 'namespace=~"$namespace", run=~"$run_a|$run_b"'
_TOKENS = newest("trainer_run_tokens", _BOTH)
# How far from the wanted number of tokens a sample may be.
_NEAR = 0.02
# Leaves out the first, so that two runs are shown before anything is chosen.
_OTHERS = 'label_values(trainer_attempt{namespace=~"$namespace", run!="$run_a"}, run)'


def board() -> Board:
    """The dashboard."""
    return Board(
        uid="gpt-run-compare",
        title="gpt-run / Compare",
        description="Two runs by the tokens that they have seen. The range has to hold both of them.",
        variables=[NAMESPACE, Variable("run_a", "Run A", RUN.query), Variable("run_b", "Run B", _OTHERS)],
        rows=[
            Row("At the same number of tokens", _stats()),
            Row("Quality by tokens", _quality()),
            Row("Speed and price by tokens", _price()),
        ],
        since="now-7d",
    )


def _stats() -> list[Panel]:
    return [
        stat(
            "Tokens in common",
            "What both runs have seen: the smaller of their totals at the end of the range.",
            "si:tok",
            Query(f"min({_final('trainer_run_tokens')})"),
            decimals=2,
            span=6,
        ),
        stat(
            "Loss at those tokens",
            "Mean of the samples within 2% of the tokens in common.",
            "none",
            Query(_at_common_tokens("trainer_loss"), "{{run}}"),
            decimals=4,
            span=6,
        ),
        stat(
            "Validation loss at those tokens",
            "The newest value at that point, mean of the samples within 2% of the tokens in common.",
            "none",
            Query(_at_common_tokens("trainer_validation_loss"), "{{run}}"),
            decimals=4,
            span=6,
        ),
        stat(
            "Goodput",
            "Share of each run's life that went into steps which a checkpoint holds.",
            "percentunit",
            Query(_final("trainer_run_goodput_ratio"), "{{run}}"),
            decimals=1,
            span=6,
        ),
        rows(
            "What they are",
            "Model, precision, version and configuration of each: equal hashes are equal run files.",
            "max by (namespace, run, model, parameters, precision, version, git_commit, config_sha256) "
            f"(last_over_time(trainer_run_info{{{_BOTH}}}[$__range]))",
            Column("steps", "none", _final("trainer_run_steps")),
            Column("tokens", "si:tok", _final("trainer_run_tokens")),
            Column("attempts", "none", _final("trainer_attempt")),
            Column("spent", "locale", _final("trainer_run_cost")),
            height=5,
        ),
    ]


def _quality() -> list[Panel]:
    return [
        _by_tokens("Loss", "Training loss over tokens.", "none", "trainer_loss"),
        _by_tokens(
            "Validation loss",
            "Validation loss over tokens; steps, since it holds until the next evaluation.",
            "none",
            "trainer_validation_loss",
        ),
        _by_tokens("Gradient norm", "Before clipping, over tokens.", "none", "trainer_grad_norm", logarithmic=True),
        _by_tokens("Learning rate", "Over tokens.", "sci", "trainer_learning_rate"),
    ]


def _price() -> list[Panel]:
    gpu_seconds = f"sum by (namespace, run) ({newest('trainer_gpu_seconds_total', _BOTH, 'bucket')})"
    return [
        _by_tokens(
            "Tokens per second",
            "Speed of the steps over tokens: two runs at the same point of training.",
            TOKENS_PER_SECOND,
            "trainer_tokens_per_second",
        ),
        against(
            "GPU hours",
            "All GPU hours of the run's life, faults included, over the tokens that they gave.",
            "h",
            "si:tok",
            _TOKENS,
            f"{gpu_seconds} / 3600",
        ),
    ]


def _by_tokens(title: str, description: str, unit: str, metric: str, *, logarithmic: bool = False) -> Panel:
    values = newest(metric, _BOTH)
    return against(title, description, unit, "si:tok", _TOKENS, values, logarithmic=logarithmic)


def _final(metric: str) -> str:
    """The last value within the range, of runs that have ended too."""
    return f"max by (namespace, run) (last_over_time({metric}{{{_BOTH}}}[$__range]))"


def _at_common_tokens(metric: str) -> str:
    """Mean of a metric while a run's tokens were within 2% of what both have seen."""
    common = f"scalar(min(max by (namespace, run) (last_over_time(trainer_run_tokens{{{_BOTH}}}[$__range] @ end()))))"
    near = f"abs({_TOKENS} - {common}) < {_NEAR} * {common}"
    return f"avg_over_time(({newest(metric, _BOTH)} and on (namespace, run) ({near}))[$__range:])"
