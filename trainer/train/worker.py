"""One rank of an attempt, from the process group to the exit code.

Called by `gpt-run worker`. After an error no collective starts: the other ranks may never come, so the process leaves
at once and the launcher ends the rest.
"""

from __future__ import annotations

import gc
import json
import os
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from trainer.config import RunConfig
from trainer.config_file import load_run_config
from trainer.elastic.launcher import REPORT_FOLDER_VARIABLE
from trainer.elastic.signals import StopSignals
from trainer.errors import EXIT_FAILED, EXIT_FINISHED, EXIT_PREEMPTED, EXIT_USER_ERROR, Fenced, UserError
from trainer.metrics.console import configure_logging
from trainer.metrics.summary import closing_summary
from trainer.parallel.world import join_world, leave_world
from trainer.train.loop import NonFiniteLoss, Outcome, Run, close_run, evaluate_only, train
from trainer.train.setup import set_up


def run_worker(reference: str, overrides: Sequence[str], signals: StopSignals) -> int:
    """Run one rank; returns its exit code, or ends the process after an error."""
    rank = int(os.environ.get("RANK", "0"))
    configure_logging(rank)
    try:
        config = load_run_config(reference, overrides)
        code = _run_attempt(config, signals, command=_command(reference, overrides))
    except UserError as error:
        _leave(rank, EXIT_USER_ERROR, f"error: {error}")
    except (Fenced, NonFiniteLoss) as error:
        _leave(rank, EXIT_FAILED, f"error: {error}")
    except Exception:
        _leave(rank, EXIT_FAILED, traceback.format_exc())
    signals.restore()
    return code


def _run_attempt(config: RunConfig, signals: StopSignals, *, command: str) -> int:
    world = join_world()
    run = set_up(config, world, signals)
    try:
        code = _evaluate(run) if config.task == "evaluate" else _train(run, command)
    finally:
        close_run(run)
    # FSDP's tensors must be gone before gloo's threads are, on every rank, or the interpreter's exit aborts.
    del run, world
    gc.collect()
    leave_world()
    return code


def _train(run: Run, command: str) -> int:
    outcome: Outcome = train(run)
    committed = outcome.checkpoint.committed if outcome.checkpoint else None
    run.console.say(
        closing_summary(
            reason=outcome.reason,
            step=run.progress.step,
            total_steps=run.total_steps,
            tokens=run.progress.tokens,
            loss=run.progress.loss,
            validation_loss=run.progress.validation_loss,
            train_seconds=run.progress.train_seconds,
            checkpoint_url=run.store.url_of(f"checkpoints/{committed.name}") if committed else None,
            run_url=run.store.url,
            command=command,
        )
    )
    return EXIT_PREEMPTED if outcome.reason == "preempted" else EXIT_FINISHED


def _evaluate(run: Run) -> int:
    evaluation = evaluate_only(run)
    return EXIT_PREEMPTED if evaluation is None else EXIT_FINISHED


def _command(reference: str, overrides: Sequence[str]) -> str:
    """What the user would type to go on."""
    return " ".join(["gpt-run train", reference, *(f"--set {override}" for override in overrides)])


def _leave(rank: int, code: int, message: str) -> NoReturn:
    """End the process now. Under a launcher the message goes to a report, of which it prints the first rank's."""
    sys.stdout.flush()
    folder = os.environ.get(REPORT_FOLDER_VARIABLE)
    if folder:
        partial = Path(folder, f".rank-{rank:05d}.json")
        partial.write_text(json.dumps({"exit_code": code, "message": message}))
        partial.rename(Path(folder, f"rank-{rank:05d}.json"))
    else:
        print(message, file=sys.stderr, flush=True)
    # Not sys.exit: threads of gloo and of a save in flight would hold the process up or abort it.
    os._exit(code)
