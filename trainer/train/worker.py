"""One rank of an attempt, from the process group to the exit code.

Called by `gpt-run worker`, and under Ray by `trainer.ray.worker`. After an error no collective starts: the other ranks
may never come, so the process leaves at once and whoever started it ends the rest.
"""

from __future__ import annotations

import gc
import os
import shlex
import sys
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import torch

from trainer.checkpoint.ranks import TransferFailed
from trainer.config import RunConfig
from trainer.config_file import load_run_config
from trainer.elastic.pulse import Pulse
from trainer.elastic.reasons import Reason
from trainer.elastic.signals import StopFlag
from trainer.elastic.workers import REPORT_FOLDER_VARIABLE, Report, write_report
from trainer.errors import EXIT_FAILED, EXIT_FINISHED, EXIT_PREEMPTED, EXIT_USER_ERROR, Fenced, UserError
from trainer.metrics.console import configure_logging
from trainer.metrics.goodput import Bucket, GoodputClock
from trainer.metrics.summary import closing_summary
from trainer.parallel.world import World, join_world, leave_world
from trainer.storage_errors import StoreUnavailable, may_heal, one_line
from trainer.train.evaluation import evaluate_checkpoint
from trainer.train.loop import NonFiniteLoss, NotSaved, Run, close_run, train
from trainer.train.monitoring import process_clock
from trainer.train.setup import set_up

# What gloo and NCCL say; torch has no class for it.
_PEER_GONE = ("Connection closed by peer", "Connection reset by peer", "remote process exited")


def run_worker(reference: str, overrides: Sequence[str], signals: StopFlag, pulse: Pulse) -> int:
    """Run one rank; returns its exit code, or ends the process after an error."""
    rank = int(os.environ.get("RANK", "0"))
    configure_logging(rank)
    try:
        config = load_run_config(reference, overrides)
        return run_attempt(config, signals, pulse, command=_command(reference, overrides))
    except Exception as error:
        _leave(report_of(error, rank))


class _StoppedAtTheStart(Exception):
    """Another rank obeyed the wish to stop before its first step had ended: no step was agreed on, nothing is lost."""


def report_of(error: Exception, rank: int) -> Report:
    """What to tell of a rank that an error ended: exit code, reason and, unless it just stopped, words or traceback."""
    code, reason, message = EXIT_FAILED, reason_of(error), f"error: {error}"
    if isinstance(error, UserError):
        code, reason = EXIT_USER_ERROR, Reason.CONFIG_INVALID
    elif isinstance(error, _StoppedAtTheStart):
        code, reason, message = EXIT_PREEMPTED, Reason.PREEMPTED, ""
    elif _lost_a_peer(error):
        message = f"error: rank {rank} lost a peer, whose own end says more: {one_line(error)}"
    elif not isinstance(error, Fenced | NonFiniteLoss | NotSaved | TransferFailed | StoreUnavailable):
        message = "".join(traceback.format_exception(error))
    return Report(rank, code, reason, message, time.time_ns())


def _lost_a_peer(error: Exception) -> bool:
    """Whether a collective broke since another rank had ended: where in our code it did is of no interest."""
    if isinstance(error, torch.distributed.DistNetworkError):
        return True  # and the round's store with it, before there was a process group
    return isinstance(error, RuntimeError) and any(words in str(error) for words in _PEER_GONE)


def reason_of(error: Exception) -> Reason:
    """Why an attempt failed, in the word that status and metrics use."""
    if isinstance(error, Fenced):
        return Reason.FENCED
    if isinstance(error, NonFiniteLoss):
        return Reason.NON_FINITE_LOSS
    if isinstance(error, NotSaved | TransferFailed) or may_heal(error):
        return Reason.STORE_UNAVAILABLE
    # torch says so of a CPU's memory in a bare RuntimeError.
    if isinstance(error, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in str(error):
        return Reason.OUT_OF_MEMORY
    return Reason.WORKER_FAILED


def run_attempt(config: RunConfig, signals: StopFlag, pulse: Pulse, *, command: str) -> int:
    """Join the world that the environment tells of, train or evaluate, leave it; the exit code.

    Raises what ended the rank early; after that no collective may start. command: what the user types to go on.
    """
    pulse.tell(phase="starting")
    clock = process_clock()
    # Longer than the launcher's watchdog, which knows more and keeps the stacks.
    world = join_world(timeout_seconds=2 * config.elastic.hang_seconds)
    clock.enter(Bucket.TRAINING_PREP)
    code = EXIT_FINISHED
    if config.task == "evaluate":
        evaluate_checkpoint(config, world)
    else:
        code = _train(config, world, signals, pulse, clock, command)
    # FSDP's tensors must be gone before gloo's threads are, on every rank, or the interpreter's exit aborts.
    del world
    gc.collect()
    leave_world()
    return code


def _train(config: RunConfig, world: World, signals: StopFlag, pulse: Pulse, clock: GoodputClock, command: str) -> int:
    run = set_up(config, world, signals, pulse, clock)
    if run is None:
        return EXIT_FINISHED
    first_step = run.progress.step
    try:
        outcome = train(run)
        run.console.close()  # the bar, above the summary
        run.console.say(_summary(run, outcome.reason, command))
    except (Fenced, NonFiniteLoss, NotSaved, TransferFailed, UserError):
        raise
    except Exception:
        if signals.requested and run.progress.step <= first_step + 1:
            raise _StoppedAtTheStart from None
        raise
    finally:
        close_run(run)
    return EXIT_PREEMPTED if outcome.reason == "preempted" else EXIT_FINISHED


def _summary(run: Run, reason: str, command: str) -> str:
    return closing_summary(
        reason=reason,
        step=run.progress.step,
        total_steps=run.total_steps,
        tokens=run.progress.tokens,
        loss=run.progress.loss,
        validation_loss=run.progress.validation_loss,
        train_seconds=run.progress.train_seconds,
        checkpoint_url=run.checkpoint_url,
        run_url=run.store.url,
        command=command,
    )


def _command(reference: str, overrides: Sequence[str]) -> str:
    """What the user would type to go on."""
    ranks = os.environ.get("LOCAL_WORLD_SIZE", "1")
    words = ["gpt-run", "train", reference, *(["--nproc", ranks] if ranks != "1" else [])]
    return shlex.join([*words, *(part for override in overrides for part in ("--set", override))])


def _reported(folder: Path, report: Report) -> bool:
    try:
        write_report(folder, report)
    except OSError:  # a disk that is full
        return False
    return True


def _leave(report: Report) -> NoReturn:
    """End the process now. Under a launcher the message goes to a report: it prints the one that names the cause."""
    sys.stdout.flush()
    folder = os.environ.get(REPORT_FOLDER_VARIABLE)
    if report.message and not (folder and _reported(Path(folder), report)):
        print(report.message, file=sys.stderr, flush=True)
    # Not sys.exit: threads of gloo and of a save in flight would hold the process up or abort it.
    os._exit(report.exit_code)
