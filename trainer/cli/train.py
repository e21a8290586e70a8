"""`gpt-run train` (the launcher) and `gpt-run worker` (one rank)."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from trainer.errors import UserError

RunFile = Annotated[str, typer.Argument(metavar="RUN", help="A run file, or the name of a preset.")]
Overrides = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change one key; may be given several times.")
]


def train(
    run: RunFile,
    nproc: Annotated[int, typer.Option("--nproc", min=1, help="Workers (ranks) to start on this machine.")] = 1,
    overrides: Overrides = None,
) -> None:
    """Train, from the newest checkpoint on. Ctrl+C saves and stops (exit 75); a second one quits at once.

    Example: gpt-run train tiny-gpt2 --nproc 2 --set steps=100 --set checkpoint.store=s3://bucket/runs
    """
    from trainer.elastic.signals import StopSignals

    # Before anything that takes time: a process that is PID 1 loses signals that it has no handler for.
    signals = StopSignals(quits=False)
    from trainer.config_file import load_run_config
    from trainer.elastic.launcher import Launcher, worker_command

    config = load_run_config(run, overrides or [])
    if nproc > config.batch.sequences:
        raise UserError(
            f"--nproc {nproc} with batch.sequences {config.batch.sequences}",
            expected="at least one sequence of the global batch for each rank",
            fix="start fewer workers, or raise batch.sequences",
        )
    arguments = [run, *(part for override in overrides or [] for part in ("--set", override))]
    grace_seconds = config.elastic.grace_seconds
    launcher = Launcher(worker_command(arguments), nproc=nproc, grace_seconds=grace_seconds, signals=signals)
    sys.exit(launcher.run())


def worker(run: RunFile, overrides: Overrides = None) -> None:
    """Run one rank; started by `gpt-run train` or by torchrun, which set RANK, WORLD_SIZE and MASTER_ADDR.

    Example: torchrun --nproc-per-node 2 -m trainer worker tiny-gpt2
    """
    from trainer.elastic.signals import StopSignals, die_with_launcher

    # Before torch is imported, which takes seconds in which a signal must not be lost.
    signals = StopSignals()
    die_with_launcher()
    from trainer.train.worker import run_worker

    code = run_worker(run, overrides or [], signals)
    sys.stdout.flush()
    sys.stderr.flush()
    sys.exit(code)
