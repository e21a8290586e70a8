"""Dashboard of one run: is it healthy, how fast is it, how good is it, and what did faults cost?"""

from __future__ import annotations

from charts.generator.dashboards.board import NAMESPACE, RUN, Board
from charts.generator.dashboards.panels import (
    TOKENS_PER_SECOND,
    Panel,
    Query,
    Row,
    amounts,
    lines,
    stat,
    states,
)
from charts.generator.dashboards.queries import RUN as SELECTOR
from charts.generator.dashboards.queries import age, events, grown, newest, of_run, purpose, speed


def board() -> Board:
    """The dashboard."""
    return Board(
        uid="gpt-run-run",
        title="gpt-run / Run",
        description="One pretraining run: health, speed, quality, and what faults cost.",
        variables=[NAMESPACE, RUN],
        rows=[
            Row("Is it healthy?", _health()),
            Row("How fast?", _speed()),
            Row("How good?", _quality()),
            Row("What did faults cost?", [*_costs(), *_faults()]),
        ],
        marked=SELECTOR,
    )


def _health() -> list[Panel]:
    return [
        stat(
            "Phase",
            "What the run does now, as its coordinator's /status says. Without data there is no coordinator to ask.",
            "none",
            Query(f"{newest('trainer_phase', SELECTOR, 'phase')} == 1", "{{phase}}"),
            names=True,
            runbook="GptRunCoordinatorGone",
        ),
        stat(
            "Since the last step",
            "Seconds since a step was finished. Some minutes are normal while a checkpoint is restored or an "
            "evaluation runs; longer means that the run hangs or waits for workers.",
            "s",
            Query(age("trainer_last_step_timestamp_seconds")),
            thresholds=((None, "green"), (120, "orange"), (600, "red")),
            runbook="GptRunStalled",
        ),
        stat(
            "Since the last checkpoint",
            "Age of the newest commit: what a lost worker would cost now, in seconds of training.",
            "s",
            Query(age("trainer_checkpoint_last_timestamp_seconds")),
            thresholds=((None, "green"), (1800, "orange"), (7200, "red")),
            runbook="GptRunCheckpointOld",
        ),
        stat(
            "Workers",
            "Ranks that train, and launchers that have reported to the coordinator. Fewer ranks than were asked "
            "for: pods are pending or their nodes are gone.",
            "short",
            Query(newest("trainer_world_size"), "ranks"),
            Query(newest("gptrun_coordinator_members"), "launchers"),
        ),
        stat(
            "Progress",
            "Steps done of those planned.",
            "percentunit",
            Query(f"{newest('trainer_run_steps')} / {newest('trainer_run_steps_planned')}"),
            decimals=1,
        ),
        stat(
            "Estimated end",
            "When the last step will be done at the present speed. Faults to come are not in it.",
            "dateTimeFromNow",
            Query(f"{newest('trainer_eta_timestamp_seconds')} * 1000"),
        ),
        states(
            "Phases",
            "What the run did when: a band is blue while the run was in that phase. Gaps have no coordinator to ask.",
            Query(newest("trainer_phase", SELECTOR, "phase"), "{{phase}}"),
        ),
    ]


def _speed() -> list[Panel]:
    steps = f"sum by (namespace, run, le) (rate(trainer_step_duration_seconds_bucket{{{SELECTOR}}}[$__rate_interval]))"
    return [
        lines(
            "Tokens per second",
            "Speed of the newest steps as the trainer counts it, and tokens over wall time, pauses included. A gap "
            "between the two is time without steps: saves, evaluations, restarts.",
            TOKENS_PER_SECOND,
            Query(newest("trainer_tokens_per_second"), "newest steps"),
            Query(speed("trainer_tokens_total"), "wall time"),
            runbook="GptRunThroughputDrop",
        ),
        lines(
            "Use of the GPUs",
            "Model FLOP utilization (FLOP that the model needs, over what the GPUs could do), and the share of "
            "time in which the GPUs ran some kernel. Kernels that wait for the network count in the second alone.",
            "percentunit",
            Query(newest("trainer_mfu_ratio"), "model FLOP utilization"),
            Query(f"avg ({of_run('DCGM_FI_DEV_GPU_UTIL', 'trainer_gpu_utilization_ratio')})", "GPU utilization"),
            most=1,
        ),
        lines(
            "Parts of a step",
            "Where a step's time goes. Communication is what is not hidden behind computation. Data above a few "
            "percent: the loader is too slow.",
            "percentunit",
            Query(newest("trainer_step_share_ratio", SELECTOR, "part"), "{{part}}"),
            stacked=True,
            most=1,
        ),
        lines(
            "Time of a step",
            "Median and 95th percentile over the last minutes.",
            "s",
            Query(f"histogram_quantile(0.5, {steps})", "median"),
            Query(f"histogram_quantile(0.95, {steps})", "95th percentile"),
        ),
        lines(
            "Ranks' own work in a step",
            "Seconds a rank worked in the newest profiled step, without its waits for others: the fastest, median "
            "and slowest rank. All wait for the slowest.",
            "s",
            Query(newest("trainer_rank_step_seconds", SELECTOR, "stat"), "{{stat}}"),
            runbook="GptRunStraggler",
            span=8,
        ),
        lines(
            "Slowest rank",
            "Which rank had most work of its own in that step. A line that stays is one slow GPU or node; one that "
            "jumps is chance.",
            "none",
            Query(newest("trainer_slowest_rank"), "rank"),
            runbook="GptRunStraggler",
            span=8,
        ),
        lines(
            "Memory of rank 0",
            "The others hold as much. Reserved close to total: the next longer activation ends in OutOfMemory.",
            "bytes",
            Query(newest("trainer_memory_bytes", SELECTOR, "kind"), "{{kind}}"),
            span=8,
        ),
    ]


def _quality() -> list[Panel]:
    return [
        lines(
            "Loss",
            "Mean over the target tokens of the whole global batch, and over the validation set. After a fault "
            "the curve goes on from the checkpoint: steps done again give the same values. By tokens: the Compare"
            " dashboard.",
            "none",
            Query(newest("trainer_loss"), "training"),
            Query(newest("trainer_validation_loss"), "validation"),
            runbook="GptRunLossSpike",
            span=24,
        ),
        lines(
            "Gradient norm",
            "Before clipping. Spikes come before spikes of the loss.",
            "none",
            Query(newest("trainer_grad_norm"), "norm"),
            logarithmic=True,
            span=8,
        ),
        lines("Learning rate", "Of the newest step.", "sci", Query(newest("trainer_learning_rate"), "rate"), span=8),
        lines(
            "Steps without a finite gradient",
            "Steps that were left out because a gradient was infinite or no number. A few belong to fp16; in bf16"
            " and fp32 there should be none.",
            "short",
            Query(events("trainer_nonfinite_steps_total"), "steps"),
            thresholds=((None, "green"), (1, "red")),
            runbook="GptRunNonFiniteLoss",
            bars=True,
            span=8,
        ),
    ]


def _costs() -> list[Panel]:
    wasted = newest("trainer_run_cost_lost", SELECTOR, "currency")
    return [
        stat(
            "Goodput",
            "Share of the run's life, pauses included, that went into steps which a checkpoint holds.",
            "percentunit",
            Query(newest("trainer_run_goodput_ratio")),
            thresholds=((None, "red"), (0.8, "orange"), (0.95, "green")),
            runbook="GptRunLowGoodput",
            decimals=1,
        ),
        stat(
            "Attempts",
            "Worlds of workers since the run began.",
            "short",
            Query(newest("trainer_attempt")),
        ),
        stat(
            "Spent",
            "GPU hours of the run's life times the price of a GPU hour. No data: no price was given.",
            "locale",
            Query(newest("trainer_run_cost", SELECTOR, "currency"), "{{currency}}"),
            decimals=2,
        ),
        stat(
            "Lost to faults",
            "Price of the time without workers, of steps done again, and of starting again.",
            "locale",
            Query(wasted, "{{currency}}"),
            decimals=2,
        ),
        stat(
            "Still to spend",
            "Price of what is left at the present speed.",
            "locale",
            Query(newest("trainer_run_cost_remaining", SELECTOR, "currency"), "{{currency}}"),
            decimals=2,
        ),
        stat(
            "Per billion tokens",
            "What a billion trained tokens have cost so far, faults included.",
            "locale",
            Query(
                f"{newest('trainer_run_cost', SELECTOR, 'currency')} / on (namespace, run) group_left () "
                f"({newest('trainer_run_tokens')} / 1e9 > 0)",
                "{{currency}}",
            ),
            decimals=2,
        ),
    ]


def _faults() -> list[Panel]:
    return [
        amounts(
            "Where the time went",
            "Seconds of the run's life by what they were for. They add up to the time since it began.",
            "s",
            Query(f"sort_desc({newest('trainer_run_goodput_seconds', SELECTOR, 'bucket')})", "{{bucket}}"),
            height=9,
        ),
        lines(
            "Time by purpose",
            "Seconds of each second, by what they were for. At a fault steps turn from training into wasted progress.",
            "percentunit",
            Query(purpose("trainer_run_goodput_seconds", SELECTOR, "bucket"), "{{bucket}}"),
            stacked=True,
            span=16,
        ),
        lines(
            "Restarts",
            "Attempts that ended, by reason. Failures count against the run's budget; preemptions, scaling and "
            "lost nodes do not.",
            "short",
            Query(events("trainer_restarts_total", SELECTOR, "reason"), "{{reason}}"),
            thresholds=((None, "green"), (3, "red")),
            runbook="GptRunRestartStorm",
            bars=True,
            stacked=True,
            span=8,
        ),
        lines(
            "Checkpoints",
            "Seconds from the start of a save to its commit, and seconds that training stood still for saves "
            "within the last minutes.",
            "s",
            Query(newest("trainer_checkpoint_duration_seconds"), "save"),
            Query(grown("trainer_checkpoint_stall_seconds_total", "$__rate_interval"), "standstill"),
            span=8,
        ),
        lines(
            "Failed saves",
            "Saves that failed; training went on without them. More than one in a row: the store refuses or is away.",
            "short",
            Query(events("trainer_checkpoint_failures_total"), "failures"),
            thresholds=((None, "green"), (1, "red")),
            runbook="GptRunCheckpointFailing",
            bars=True,
            span=8,
        ),
    ]
