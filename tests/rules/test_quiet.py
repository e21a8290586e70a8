"""No alert fires where nothing is wrong: a healthy run, one that restarts, waits, ends, or whose coordinator does."""

from __future__ import annotations

import pytest

from tests.rules.promtool import Promtool
from tests.rules.simulated import Run, Script, at, script, simulate
from trainer.elastic.reasons import Reason


def finish(run: Run) -> None:
    run.phase = "finished"


def uninstall(run: Run) -> None:
    run.installed = False


def coordinator_away(run: Run) -> None:
    run.serving = False


QUIET: dict[str, Script] = {
    "healthy": script(),
    "a-restart": at(60, lambda run: run.restart(Reason.WORKER_FAILED)),
    "a-slow-restart": at(60, lambda run: run.restart(Reason.NODE_LOST, seconds=20 * 60)),
    "two-failures-and-some-preemptions": script(
        at(60, lambda run: run.restart(Reason.WORKER_FAILED)),
        at(70, lambda run: run.restart(Reason.PREEMPTED)),
        at(80, lambda run: run.restart(Reason.SCALED)),
        at(90, lambda run: run.restart(Reason.HUNG)),
        at(100, lambda run: run.restart(Reason.PREEMPTED)),
    ),
    "a-coordinator-restarts": script(
        at(60, coordinator_away),
        at(61, Run.new_coordinator),
        at(80, lambda run: run.restart(Reason.WORKER_FAILED)),
        at(90, Run.new_coordinator),
        at(100, lambda run: run.restart(Reason.WORKER_FAILED)),
    ),
    "suspended-and-resumed": script(
        at(60, lambda run: run.restart(Reason.SUSPENDED)),
        at(60, Run.wait),
        at(190, lambda run: run.restart(Reason.SUSPENDED, seconds=240)),
    ),
    "suspended-without-a-coordinator": script(at(60, Run.wait), at(70, coordinator_away)),
    "finished": script(at(60, finish)),
    "finished-and-its-server-ends": script(at(60, finish), at(61, coordinator_away)),
    "uninstalled-while-it-trains": at(60, uninstall),
    "begins-anew-under-its-old-name": script(at(60, uninstall), at(90, Run.begin_anew)),
}


@pytest.mark.parametrize("trouble", QUIET.values(), ids=QUIET)
def test_no_alert_fires(promtool: Promtool, trouble: Script) -> None:
    promtool.firing(simulate(240, trouble), {}, ever=())


def test_no_alert_fires_at_the_end_of_a_run_whose_server_ends_with_it(promtool: Promtool) -> None:
    trouble = script(at(59, lambda run: setattr(run, "eta_seconds", 60)), at(60, coordinator_away))
    promtool.firing(simulate(120, trouble), {}, ever=())
