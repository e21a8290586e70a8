"""A sweep from start to table: what is there, what has to be trained, how it ended. Called by `gpt-run sweep`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from trainer.errors import EXIT_FAILED, EXIT_FINISHED, EXIT_PREEMPTED, EXIT_USER_ERROR, UserError
from trainer.sweep.halving import check_halving, run_halving
from trainer.sweep.local import Ended, LocalRunner, StopSwitch
from trainer.sweep.points import Sweep
from trainer.sweep.result import SweepResult, make_result
from trainer.sweep.standing import look, look_at_all


@dataclass(frozen=True)
class Outcome:
    """What a sweep found, and what to exit with."""

    result: SweepResult
    exit_code: int


@dataclass(frozen=True)
class LocalOptions:
    """How runs are trained on this machine."""

    folder: Path
    """Run files and logs."""
    parallel: int = 1
    nproc: int = 1
    halving: int | None = None


@dataclass
class _Work:
    ended: Mapping[str, Ended] = field(default_factory=dict)
    given_up: set[str] = field(default_factory=set)


def refuse_mixed(*, on_cluster: bool, halving: int | None, values: Sequence[str]) -> None:
    """UserError for options of the other kind of sweep."""
    if on_cluster and halving is not None:
        raise UserError(
            "--halving with --cluster: jobs cannot be stopped at a step yet",
            expected="--halving for runs on this machine",
            fix="leave one of them out",
        )
    if values and not on_cluster:
        raise UserError(
            f"--values {values[0]} without --cluster",
            expected="values of the chart with --cluster alone",
            fix="add --cluster, or change keys of the run with --set",
        )


def show(sweep: Sweep) -> Outcome:
    """What there is, with nothing started."""
    standings = look_at_all(sweep.points)
    result = make_result(sweep.name, sweep.keys, standings, failures={}, advice=sweep.advice)
    return Outcome(result, EXIT_FINISHED)


def run_here(sweep: Sweep, options: LocalOptions, signals: StopSwitch, say: Callable[[str], None]) -> Outcome:
    """Train what is not finished, and compare. UserError before anything is started where runs cannot be compared."""
    shares = check_halving(sweep.points, options.halving) if options.halving else []
    standings = look_at_all(sweep.points)
    left = [one.point for one in standings if not one.finished]
    say(f"{sweep.name}: {len(sweep.points)} runs, {len(sweep.points) - len(left)} of them finished")
    for sentence in sweep.advice:
        say(f"note: {sentence}")
    runner = LocalRunner(options.folder, parallel=options.parallel, nproc=options.nproc, signals=signals, say=say)
    options.folder.mkdir(parents=True, exist_ok=True)
    signals.arm()
    if options.halving and left:
        work = _Work(*run_halving(sweep.points, shares, options.halving, runner, lambda: signals.requested, say))
    else:
        work = _Work(runner.train(left))
    failures = {name: end.message or f"exit code {end.exit_code}" for name, end in work.ended.items() if end.failed}
    result = make_result(
        sweep.name,
        sweep.keys,
        [look(point) for point in sweep.points],
        failures=failures,
        given_up=work.given_up,
        advice=sweep.advice,
    )
    return Outcome(result, _exit_code(result, work.ended, stopped=signals.requested))


def _exit_code(result: SweepResult, ended: Mapping[str, Ended], *, stopped: bool) -> int:
    if stopped:
        return EXIT_PREEMPTED
    failed = [end for end in ended.values() if end.failed]
    if failed:
        return EXIT_USER_ERROR if all(end.exit_code == EXIT_USER_ERROR for end in failed) else EXIT_FAILED
    # Somebody else stopped a run of ours.
    unfinished = any(row.state in ("partial", "waiting") for row in result.rows)
    return EXIT_PREEMPTED if unfinished else EXIT_FINISHED
