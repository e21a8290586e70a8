"""Each alert fires when it should, says what it saw, stays quiet on what looks alike, and resolves."""

from __future__ import annotations

import re
from typing import Any

import pytest

from tests.rules import test_operator
from tests.rules.promtool import Promtool
from tests.rules.rendering import Group, alerts
from tests.rules.simulated import Run, Samples, at, script, simulate
from trainer.elastic.reasons import Reason

RUN = {"namespace": "team", "run": "demo"}


def to(**fields: Any) -> Any:
    """A change that sets fields of the run."""

    def change(run: Run) -> None:
        for name, value in fields.items():
            setattr(run, name, value)

    return change


def ends(reason: Reason, **options: float) -> Any:
    """A change that ends the attempt."""
    return lambda run: run.restart(reason, **options)


def test_stalled(promtool: Promtool) -> None:
    samples = simulate(120, script(at(60, to(stepping=False)), at(90, to(stepping=True))))
    promtool.firing(samples, {69: (), 71: "GptRunStalled", 89: "GptRunStalled", 92: ()}, ever=("GptRunStalled",))


def test_stalled_before_the_first_step(promtool: Promtool) -> None:
    samples = simulate(90, at(60, to(phase="training")), phase="starting", stepping=True)
    promtool.firing(samples, {29: (), 32: "GptRunStalled", 59: "GptRunStalled", 62: ()}, ever=("GptRunStalled",))


def test_stalled_in_a_restart_that_never_comes_up(promtool: Promtool) -> None:
    samples = simulate(120, at(60, ends(Reason.NODE_LOST, seconds=10_000)))
    both = ("GptRunCheckpointOld", "GptRunStalled")
    promtool.firing(samples, {79: (), 92: "GptRunStalled", 110: both}, ever=both)


def test_stalled_is_none_whose_steps_are_long(promtool: Promtool) -> None:
    def step_every_eight_minutes(run: Run, minute: float) -> None:
        run.stepping = minute % 8 == 0

    changes = {"checkpoint_interval": None, "slowest": 480.0}
    samples = simulate(120, step_every_eight_minutes, **changes)
    # Its slowest rank is far slower than the median here, which is another matter.
    promtool.firing(samples, {}, ever=("GptRunStraggler",))


def test_stalled_goes_on_through_a_coordinators_restart(promtool: Promtool) -> None:
    samples = simulate(90, script(at(60, to(stepping=False)), at(80, Run.new_coordinator)))
    promtool.firing(samples, {79: "GptRunStalled", 82: "GptRunStalled"}, ever=("GptRunStalled",))


def test_failed(promtool: Promtool) -> None:
    samples = simulate(90, script(at(60, to(phase="failed")), at(80, to(phase="training"))))
    promtool.firing(samples, {60: (), 62: "GptRunFailed", 79: "GptRunFailed", 81: ()}, ever=("GptRunFailed",))


def test_restart_storm(promtool: Promtool) -> None:
    kills = [at(minute, ends(Reason.WORKER_FAILED)) for minute in (60, 66, 72)]
    promtool.firing(
        simulate(160, script(*kills)),
        {71: (), 74: "GptRunRestartStorm", 110: "GptRunRestartStorm", 128: ()},
        ever=("GptRunRestartStorm",),
    )


def test_restart_storm_with_a_new_coordinator_in_between(promtool: Promtool) -> None:
    kills = [at(minute, ends(Reason.WORKER_FAILED)) for minute in (60, 66, 74, 78)]
    samples = simulate(100, script(*kills, at(70, Run.new_coordinator)))
    promtool.firing(samples, {73: (), 82: "GptRunRestartStorm"}, ever=("GptRunRestartStorm",))


def test_restart_storm_of_preemptions(promtool: Promtool) -> None:
    ends_often = [at(60 + 4 * count, ends(Reason.PREEMPTED)) for count in range(10)]
    promtool.firing(
        simulate(120, script(*ends_often)), {95: (), 99: "GptRunRestartStorm"}, ever=("GptRunRestartStorm",)
    )


def test_non_finite_loss(promtool: Promtool) -> None:
    samples = simulate(120, at(60, to(nonfinite=3)))
    moments = {59: (), 62: "GptRunNonFiniteLoss", 74: "GptRunNonFiniteLoss", 77: ()}
    promtool.firing(samples, moments, ever=("GptRunNonFiniteLoss",))


def test_non_finite_loss_that_ended_the_attempt(promtool: Promtool) -> None:
    samples = simulate(120, at(60, ends(Reason.NON_FINITE_LOSS)), precision="fp16")
    promtool.firing(samples, {62: "GptRunNonFiniteLoss", 77: ()}, ever=("GptRunNonFiniteLoss",))


@pytest.mark.parametrize(("steps", "expected"), [(16, ()), (30, ("GptRunNonFiniteLoss",))])
def test_non_finite_loss_in_fp16_is_usual_until_it_is_often(
    promtool: Promtool, steps: int, expected: tuple[str, ...]
) -> None:
    promtool.firing(simulate(90, at(60, to(nonfinite=steps)), precision="fp16"), {62: expected}, ever=expected)


def test_loss_spike(promtool: Promtool) -> None:
    samples = simulate(150, script(at(100, to(extra_loss=1.0)), at(110, to(extra_loss=0.0))))
    moments = {104: (), 107: "GptRunLossSpike", 112: ()}
    promtool.firing(samples, moments, ever=("GptRunLossSpike",))


def test_loss_spike_early_in_training(promtool: Promtool) -> None:
    """Not while the loss falls as it should; a loss that blows up is found all the same."""
    samples = simulate(60, at(12, to(extra_loss=9.0)))
    promtool.firing(samples, {16: (), 20: "GptRunLossSpike"}, ever=("GptRunLossSpike",))


def test_loss_spike_of_one_interval_is_noise(promtool: Promtool) -> None:
    samples = simulate(150, script(at(100, to(extra_loss=3.0)), at(102, to(extra_loss=0.0))))
    promtool.firing(samples, {}, ever=())


def test_throughput_drop(promtool: Promtool) -> None:
    samples = simulate(150, script(at(60, to(speed=50_000.0)), at(90, to(speed=100_000.0))))
    moments = {69: (), 73: "GptRunThroughputDrop", 89: "GptRunThroughputDrop", 97: ()}
    promtool.firing(samples, moments, ever=("GptRunThroughputDrop",))


def test_throughput_drop_of_a_smaller_world_is_none(promtool: Promtool) -> None:
    changes = [at(60, ends(Reason.SCALED)), at(60, to(speed=50_000.0)), at(66, Run.new_coordinator)]
    promtool.firing(simulate(180, script(*changes)), {}, ever=())


def test_throughput_drop_after_a_restart(promtool: Promtool) -> None:
    """The same attempt is what it is compared with, and as soon as that is long enough."""
    changes = [at(60, ends(Reason.SCALED)), at(60, to(speed=50_000.0)), at(90, to(speed=30_000.0))]
    moments = {89: (), 104: "GptRunThroughputDrop"}
    promtool.firing(simulate(110, script(*changes)), moments, ever=("GptRunThroughputDrop",))


def test_checkpoint_old(promtool: Promtool) -> None:
    # An increase of failed saves lasts half an hour.
    samples = simulate(180, script(at(61, to(saves_fail=True)), at(150, to(saves_fail=False))))
    both = ("GptRunCheckpointFailing", "GptRunCheckpointOld")
    moments = {74: (), 77: "GptRunCheckpointFailing", 104: "GptRunCheckpointFailing", 107: both, 149: both}
    moments |= {168: "GptRunCheckpointFailing"}
    promtool.firing(samples, moments, ever=both)


def test_checkpoint_old_in_a_run_that_never_saved(promtool: Promtool) -> None:
    samples = simulate(90, at(0, to(_saved_at=1e9)))
    promtool.firing(samples, {44: (), 47: "GptRunCheckpointOld"}, ever=("GptRunCheckpointOld",))


def test_checkpoint_old_needs_an_interval(promtool: Promtool) -> None:
    promtool.firing(simulate(120, at(0, to(_saved_at=1e9)), checkpoint_interval=None), {}, ever=())


def test_checkpoint_failing_once(promtool: Promtool) -> None:
    samples = simulate(150, script(at(61, to(saves_fail=True)), at(76, to(saves_fail=False))))
    moments = {77: "GptRunCheckpointFailing", 103: "GptRunCheckpointFailing", 107: ()}
    promtool.firing(samples, moments, ever=("GptRunCheckpointFailing",))


def test_checkpoint_failing_at_a_restart(promtool: Promtool) -> None:
    samples = simulate(120, at(60, ends(Reason.STORE_UNAVAILABLE)))
    promtool.firing(samples, {62: "GptRunCheckpointFailing", 92: ()}, ever=("GptRunCheckpointFailing",))


def test_straggler(promtool: Promtool) -> None:
    samples = simulate(120, script(at(60, to(slowest=1.5)), at(90, to(slowest=0.8))))
    moments = {66: (), 74: "GptRunStraggler", 89: "GptRunStraggler", 98: ()}
    promtool.firing(samples, moments, ever=("GptRunStraggler",))


def test_straggler_for_a_moment_is_noise(promtool: Promtool) -> None:
    samples = simulate(120, script(at(60, to(slowest=3.0)), at(61, to(slowest=0.8))))
    promtool.firing(samples, {}, ever=())


def test_low_goodput(promtool: Promtool) -> None:
    # Two failures an hour, each of which costs what was not saved and 17 minutes to come up.
    kills = [at(minute, ends(Reason.WORKER_FAILED, seconds=1000)) for minute in range(29, 360, 30)]
    samples = simulate(900, script(*kills))
    moments = {120: (), 240: "GptRunLowGoodput", 360: "GptRunLowGoodput", 720: ()}
    promtool.firing(samples, moments, ever=("GptRunLowGoodput",))


def test_coordinator_gone(promtool: Promtool) -> None:
    samples = simulate(150, script(at(60, to(serving=False)), at(90, Run.new_coordinator)))
    moments = {64: (), 67: "GptRunCoordinatorGone", 89: "GptRunCoordinatorGone", 92: ()}
    promtool.firing(samples, moments, ever=("GptRunCoordinatorGone",))


def test_coordinator_gone_until_the_run_is_uninstalled(promtool: Promtool) -> None:
    samples = simulate(150, script(at(60, to(serving=False)), at(80, to(installed=False))))
    promtool.firing(samples, {79: "GptRunCoordinatorGone", 82: ()}, ever=("GptRunCoordinatorGone",))


def gpus(metric: str, labels: dict[str, str], values: list[float | None]) -> Samples:
    """One series of a GPU."""
    return {metric + "{" + ", ".join(f'{key}="{value}"' for key, value in labels.items()) + "}": values}


DCGM = {"Hostname": "node-a", "gpu": "3", "UUID": "GPU-1", "namespace": "monitoring", "pod": "dcgm-exporter-x"}


@pytest.mark.parametrize(
    "series",
    [
        gpus(
            "trainer_gpu_utilization_ratio",
            {**RUN, "node": "node-a", "gpu": "3"},
            [0.9] * 60 + [0.01] * 80 + [0.9] * 20,
        ),
        gpus(
            "DCGM_FI_DEV_GPU_UTIL",
            {**DCGM, "exported_namespace": "team", "exported_pod": "demo-worker-1"},
            [90] * 60 + [1] * 80 + [90] * 20,
        ),
        gpus(
            "DCGM_FI_DEV_GPU_UTIL",
            {**DCGM, "namespace": "team", "pod": "demo-worker-1"},
            [90] * 60 + [1] * 80 + [90] * 20,
        ),
    ],
    ids=["nvml", "dcgm", "dcgm-with-honored-labels"],
)
def test_gpu_idle(promtool: Promtool, series: Samples) -> None:
    samples = simulate(80) | series
    promtool.firing(samples, {59: (), 62: "GptRunGpuIdle", 69: "GptRunGpuIdle", 72: ()}, ever=("GptRunGpuIdle",))
    found = {'run:gpu_utilization:ratio{namespace="team", run="demo", node="node-a", gpu="3"}': 0.9}
    promtool.values(samples, "run:gpu_utilization:ratio", {20: found})


def test_gpu_idle_is_nobodys_where_no_run_holds_it(promtool: Promtool) -> None:
    promtool.firing(simulate(80) | gpus("DCGM_FI_DEV_GPU_UTIL", DCGM, [0.0] * 160), {}, ever=())


def test_new_xid(promtool: Promtool) -> None:
    # dcgm-exporter restarts at minute 60: a new pod says the same again.
    first = gpus("DCGM_FI_DEV_XID_ERRORS", DCGM, [0.0] * 60 + [79.0] * 60 + [None] * 60)
    second = gpus("DCGM_FI_DEV_XID_ERRORS", DCGM | {"pod": "dcgm-exporter-y"}, [None] * 121 + [79.0] * 59)
    moments = {29: (), 32: "GptRunNewXid", 43: "GptRunNewXid", 47: (), 63: ()}
    promtool.firing(first | second, moments, ever=("GptRunNewXid",))


@pytest.mark.parametrize("codes", [[31.0] * 100, [0.0] * 50 + [45.0] * 50, [0.0] * 50 + [43.0] * 50])
def test_new_xid_is_neither_an_old_one_nor_a_killed_process(promtool: Promtool, codes: list[float | None]) -> None:
    promtool.firing(gpus("DCGM_FI_DEV_XID_ERRORS", DCGM, codes), {}, ever=())


def test_alerts_go_with_one_run_only(promtool: Promtool) -> None:
    """Two runs of a cluster: what befalls one is no other's."""
    healthy = simulate(90, name="healthy")
    stalled = simulate(90, at(60, to(stepping=False)))
    query = 'count by (alertname, namespace, run) (ALERTS{alertstate="firing"})'
    found = '{alertname="GptRunStalled", namespace="team", run="demo"}'
    promtool.values(healthy | stalled, query, {75: {found: 1}})


def test_every_alert_is_tested(groups: list[Group]) -> None:
    modules = {**globals(), **vars(test_operator)}
    tests = " ".join(name for name in modules if name.startswith("test_"))
    for alert in alerts(groups):
        words = re.findall("[A-Z][a-z]+", alert.removeprefix("GptRun"))
        assert f"test_{'_'.join(words).lower()}" in tests
