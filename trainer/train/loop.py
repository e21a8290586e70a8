"""The train loop, top to bottom: data, forward and backward, update, flags, metrics, checkpoint, evaluation.

`Run` is put together by `trainer.train.setup` for one attempt; `train` drives it and says how it ended. Whatever ends a
run early is decided together: with its loss each step carries every rank's wish to stop and rank 0's clock, so all
ranks save the same step and leave.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import NoReturn

from trainer.checkpoint.layout import CHECKPOINTS, attempt_name
from trainer.checkpoint.save import Hashes, Saver, Snapshot
from trainer.checkpoint.store import Store
from trainer.config import RunConfig
from trainer.data.dataset import TokenSplit
from trainer.data.loader import Batch, BatchLoader
from trainer.elastic.pulse import Pulse
from trainer.elastic.signals import StopFlag
from trainer.errors import Fenced
from trainer.evaluate.loss import Evaluation, evaluate_splits
from trainer.evaluate.samples import Sampler
from trainer.metrics.console import RunConsole
from trainer.metrics.goodput import Bucket
from trainer.metrics.hardware import memory_bytes
from trainer.metrics.history import History
from trainer.metrics.monitor import Monitor
from trainer.metrics.throughput import ThroughputMeter
from trainer.metrics.trackers.base import Kind
from trainer.metrics.trackers.feed import Trackers
from trainer.train.histograms import Histograms
from trainer.train.save_clock import SaveClock, due_by_epochs
from trainer.train.schedule import lr_factor
from trainer.train.state import Progress, data_order, random_state, tensors_of
from trainer.train.step import Flags, StepContext, StepResult, train_step

_AFTER_NONFINITE = "the run resumes from its newest checkpoint: lower optimizer.lr, or look at the data of that batch"


class NonFiniteLoss(Exception):
    """Too many steps in a row had a loss or gradient that is not a number, or the last one of an attempt."""


class NotSaved(Exception):
    """The last step of an attempt could not be saved: the next one begins further back."""


@dataclass(frozen=True)
class Identity:
    """The hashes that tie a checkpoint to what made it, and the config as text."""

    config_yaml: str
    hashes: Hashes


@dataclass
class Run:
    """Everything one attempt of a run works with."""

    config: RunConfig
    identity: Identity
    store: Store
    """Of this run: `<store>/<run>`."""
    attempt: int
    rank: int
    total_steps: int
    step: StepContext
    loader: BatchLoader
    validation: list[TokenSplit]
    progress: Progress
    saver: Saver
    save_clock: SaveClock
    signals: StopFlag
    pulse: Pulse
    console: RunConsole
    history: History | None
    monitor: Monitor
    trackers: Trackers | None
    """Of rank 0, as the history is."""
    sampler: Sampler | None
    meter: ThroughputMeter
    checkpoint_url: str | None
    """The newest committed checkpoint: the one this attempt began from, then its own."""
    save_error: str | None = None
    """Why the newest save failed; None if it was committed."""
    fenced: Fenced | None = None
    """Set once a save met a newer attempt."""


@dataclass(frozen=True)
class Outcome:
    """How the loop ended, its last step being in the store."""

    reason: str
    """finished | early_stopping | preempted"""


def train(run: Run) -> Outcome:
    """Train from `run.progress` to the last step, an early end or a wish to stop; the last step is always saved.

    Raises Fenced when a newer attempt owns the run, NonFiniteLoss when it has gone wrong, NotSaved when the last save
    failed.
    """
    progress, config = run.progress, run.config
    run.meter.start(time.monotonic())
    run.save_clock.began(time.monotonic())
    if progress.step == 0 and run.config.evaluate.every_steps and _validation_sets(run)[1]:
        _evaluate(run)  # what forgetting is measured from
    nonfinite_in_a_row = 0
    profile_next = False
    reason = "early_stopping" if _out_of_patience(run) else "finished"
    while progress.step < run.total_steps and reason == "finished":
        started, epoch_before = time.monotonic(), progress.epoch
        run.monitor.clock.enter(Bucket.DATA_LOADING)
        batch = next(run.loader)
        lr = run.step.optimizers.set_lr_factor(lr_factor(config.schedule, progress.step, run.total_steps))
        histograms = _histograms_if_due(run)
        before_update = histograms.take if histograms else None
        with run.monitor.step_begins(profiled=profile_next) as sample:
            result = train_step(run.step, batch.tokens, lambda: _own_flags(run), sample, before_update, batch.entries)
        _advance(run, batch, result, time.monotonic() - started)
        profile_next = result.flags.profile
        # The first step may compile for minutes, in which nobody looks at a flag, and there is nothing to save yet.
        run.signals.arm()
        nonfinite_in_a_row = 0 if result.finite else nonfinite_in_a_row + 1
        suspect = not result.finite and _on_nonfinite(run, batch, result, nonfinite_in_a_row)
        if progress.step % config.log.every_steps == 0 or progress.step == run.total_steps:
            _log_step(run, batch, result, lr)
        if histograms is not None:
            _log_histograms(run, histograms)
        if result.flags.fenced:
            raise run.fenced or Fenced("a newer attempt owns this run")

        stop, evaluation = result.flags.stop, None
        if _evaluation_due(run):
            evaluation = _evaluate(run)
            stop = stop or evaluation is None
        if run.sampler is not None and not stop and _samples_due(run):
            _write_samples(run, run.sampler)
        _collect(run)
        last = progress.step == run.total_steps
        if stop and not last:
            reason = "preempted"
        elif _out_of_patience(run) and not last:
            reason = "early_stopping"
        if suspect and (last or reason != "finished"):
            _refuse_to_end(run, batch)
        due = (result.flags.save or _save_due(run, epoch_before)) and not suspect
        if due or last or reason != "finished":
            run.monitor.clock.enter(Bucket.CHECKPOINT_SAVE)
            run.saver.save(_snapshot(run, evaluation))
            run.monitor.clock.enter(Bucket.OTHER)
            run.save_clock.began(time.monotonic())
    run.pulse.tell(phase="saving")
    run.monitor.clock.enter(Bucket.CHECKPOINT_SAVE)
    _collect(run, wait=True)
    _log_end(run, reason)
    if run.fenced is not None:
        raise run.fenced
    if run.save_error is not None:
        raise NotSaved(
            f"{run.save_error}; step {progress.step} is lost, the newest checkpoint is {run.checkpoint_url or 'none'}: "
            "see to the store and start the run again"
        )
    return Outcome(reason)


def close_run(run: Run) -> None:
    """Stop reading ahead and wait for uploads; starts no collective."""
    run.loader.close()
    run.console.close()
    if run.trackers is not None:
        run.trackers.close()
    if run.history is not None:
        run.history.close()


def _advance(run: Run, batch: Batch, result: StepResult, seconds: float) -> None:
    progress = run.progress
    progress.step += 1
    progress.tokens += run.config.batch.sequences * run.config.sequence_length
    progress.epoch = batch.epoch
    progress.loss = result.loss
    progress.train_seconds += seconds
    if run.step.scaler is not None:
        progress.loss_scale = run.step.scaler.scale
        progress.loss_scale_good_steps = run.step.scaler.good_steps
    run.meter.count_step()
    tokens = run.config.batch.sequences * run.config.sequence_length
    run.monitor.step_ended(seconds, tokens=tokens, finite=result.finite)
    run.console.step(progress.step)
    run.pulse.tell(phase="training", step=progress.step, took_step=True, last_progress_time=_now())


def _on_nonfinite(run: Run, batch: Batch, result: StepResult, in_a_row: int) -> bool:
    """Warn of a skipped step; stop the run after too many. fp16 skips steps by design while its scale falls.

    Returns whether the weights are suspect: then no due save may push a good checkpoint out of the store.
    """
    run.progress.nonfinite_steps += 1
    limit = run.config.guard.nonfinite_steps
    found = f"step {run.progress.step}: loss {result.loss}, gradient norm {result.grad_norm} (batch {batch.sha256})"
    scaler = run.step.scaler
    if scaler is not None and scaler.scale > 1.0:
        run.console.say(f"{found}: update skipped, loss scale is now {scaler.scale:g}")
        return False
    run.monitor.event(_record_head(run), "nonfinite", message=found)
    if in_a_row >= limit:
        _collect(run, wait=True)  # every rank is here: the step's figures are equal on all
        raise NonFiniteLoss(
            f"{found}: the last {in_a_row} steps were not finite, the limit (guard.nonfinite_steps) is {limit}; "
            f"{_AFTER_NONFINITE}"
        )
    run.console.say(f"{found}: update skipped, {in_a_row} of {limit} in a row")
    return True


def _refuse_to_end(run: Run, batch: Batch) -> NoReturn:
    """Saved, weights that are beyond help would be what every later attempt begins from. Collective."""
    _collect(run, wait=True)
    raise NonFiniteLoss(
        f"step {run.progress.step} (batch {batch.sha256}), the last of this attempt, was not finite, and was not "
        f"saved; {_AFTER_NONFINITE}"
    )


def _log_step(run: Run, batch: Batch, result: StepResult, lr: float) -> None:
    figures = run.meter.read(time.monotonic(), run.total_steps - run.progress.step)
    run.progress.loss_history.append((run.progress.step, result.loss))
    record = {
        **_record_head(run),
        "loss": result.loss,
        **result.parts,
        "lr": lr,
        "grad_norm": result.grad_norm,
        "batch_sha256": batch.sha256,
        "tokens_per_second": figures.tokens_per_second,
        "step_seconds": figures.step_seconds,
        "mfu_ratio": figures.mfu_ratio,
        "world_size": run.step.world_size,
        "memory_bytes": memory_bytes(run.step.device),
        "eta_seconds": figures.eta_seconds,
    }
    _emit(run, record)
    measured = run.monitor.interval(record, figures.eta_seconds)
    run.pulse.tell(
        attempt=attempt_name(run.attempt),
        steps_total=run.total_steps,
        tokens=run.progress.tokens,
        loss=record["loss"],
        lr=lr,
        grad_norm=record["grad_norm"],
        tokens_per_second=figures.tokens_per_second,
        mfu_ratio=figures.mfu_ratio,
        eta_time=_in_seconds(figures.eta_seconds),
        checkpoint_interval_seconds=_save_interval_seconds(run, figures.step_seconds),
        **measured,
    )


def _log_end(run: Run, reason: str) -> None:
    """The attempt's account at its end; what follows is time without training."""
    head = _record_head(run)
    # Readers take this for a run whose last step is in the store.
    if run.fenced is None and run.save_error is None:
        run.monitor.event(head, "stopped" if reason == "preempted" else "finished", reason=reason)
    run.monitor.close(head)
    if run.rank == 0:
        run.pulse.tell(**run.monitor.account(head))


def _evaluation_due(run: Run) -> bool:
    every = run.config.evaluate.every_steps
    return bool(every and run.validation) and (run.progress.step % every == 0 or run.progress.step == run.total_steps)


def _evaluate(run: Run) -> Evaluation | None:
    """None on every rank: given up, since one of them is asked to stop."""
    started = time.monotonic()
    run.monitor.clock.enter(Bucket.EVALUATION)

    def stop_requested() -> bool:
        run.pulse.tell(phase="evaluating")  # asked once a batch
        return run.signals.requested

    def over(splits: list[TokenSplit]) -> Evaluation | None:
        return evaluate_splits(
            run.step.model,
            splits,
            sequences=run.config.evaluate.sequences,
            micro_sequences=run.config.batch.micro_sequences,
            rank=run.rank,
            world_size=run.step.world_size,
            device=run.step.device,
            stop_requested=stop_requested,
        )

    watched, general = _validation_sets(run)
    evaluation = over(watched)
    kept = over(general) if general and evaluation is not None else None
    run.meter.pause(time.monotonic() - started)
    run.monitor.clock.enter(Bucket.OTHER)
    if evaluation is None or (general and kept is None):
        return None
    progress = run.progress
    progress.validation_loss = evaluation.validation_loss
    best = math.inf if progress.best_validation_loss is None else progress.best_validation_loss
    if evaluation.validation_loss < best - run.config.evaluate.early_stopping.min_delta:
        progress.best_validation_loss = evaluation.validation_loss
        progress.evaluations_without_improvement = 0
    else:
        progress.evaluations_without_improvement += 1
    record = {**_record_head(run), **evaluation.figures(), **_forgetting(progress, kept)}
    _emit(run, record)
    run.pulse.tell(validation_loss=record["validation_loss"])
    return evaluation


def _validation_sets(run: Run) -> tuple[list[TokenSplit], list[TokenSplit]]:
    """What validation loss is measured on, and of a fine-tuning what the model knew before: all sets but the first."""
    if run.config.task == "finetune":
        return run.validation[:1], run.validation[1:]
    return run.validation, []


def _forgetting(progress: Progress, kept: Evaluation | None) -> dict[str, float]:
    """The loss on what the model knew before, and by how much it has risen since the start."""
    if kept is None:
        return {}
    if progress.initial_general_loss is None:
        progress.initial_general_loss = kept.validation_loss
    return {
        "general_loss": kept.validation_loss,
        "forgetting": kept.validation_loss - progress.initial_general_loss,
    }


def _samples_due(run: Run) -> bool:
    return run.progress.step % run.config.evaluate.samples.every_steps == 0 or run.progress.step == run.total_steps


def _write_samples(run: Run, sampler: Sampler) -> None:
    """Have the model go on from the prompts. Collective."""
    started = time.monotonic()
    run.monitor.clock.enter(Bucket.EVALUATION)
    texts = sampler.texts(run.step.model, run.step.device, lambda: run.pulse.tell(phase="evaluating"))
    run.meter.pause(time.monotonic() - started)
    run.monitor.clock.enter(Bucket.OTHER)
    for number, (prompt, text) in enumerate(texts, start=1):
        _keep(run, "samples", {**_record_head(run), "number": number, "prompt": prompt, "text": text})


def _histograms_if_due(run: Run) -> Histograms | None:
    """For the step that is about to be taken."""
    every = run.config.log.histograms_every_steps
    if not every or (run.progress.step + 1) % every:
        return None
    return Histograms(run.step.model, run.config.model.layers)


def _log_histograms(run: Run, histograms: Histograms) -> None:
    found = histograms.record()
    if found is not None:
        _keep(run, "histograms", {**_record_head(run), **found})


def _out_of_patience(run: Run) -> bool:
    patience = run.config.evaluate.early_stopping.patience
    return bool(patience) and run.progress.evaluations_without_improvement >= patience


def _save_due(run: Run, epoch_before: float) -> bool:
    """Whether the step just taken, begun at `epoch_before`, ends an interval of `every_steps` or `every_epochs`."""
    settings, progress = run.config.checkpoint, run.progress
    if settings.every_steps and progress.step % settings.every_steps == 0:
        return True
    return due_by_epochs(epoch_before, progress.epoch, settings.every_epochs)


def _save_interval_seconds(run: Run, step_seconds: float) -> float | None:
    """Seconds between two saves; None where they follow epochs alone."""
    settings = run.config.checkpoint
    intervals = [settings.every_seconds, settings.every_steps * step_seconds if settings.every_steps else None]
    return min((seconds for seconds in intervals if seconds), default=None)


def _own_flags(run: Run) -> Flags:
    """What this rank has to tell the others."""
    return Flags(
        stop=run.signals.requested,
        # A slow store must not hold up training: the clock waits for the save in flight, so that no step has to.
        save=run.rank == 0 and run.save_clock.due(time.monotonic()) and not run.saver.busy,
        fenced=run.fenced is not None,
        profile=run.rank == 0 and run.monitor.sample_due(),
    )


def _snapshot(run: Run, evaluation: Evaluation | None) -> Snapshot:
    run.progress.goodput = run.monitor.snapshot(run.progress.step)
    return Snapshot(
        step=run.progress.step,
        tokens=run.progress.tokens,
        epoch=run.progress.epoch,
        loss=run.progress.loss,
        validation_loss=evaluation.validation_loss if evaluation else None,
        tensors=tensors_of(run.step.model, run.step.optimizers),
        progress={**run.progress.to_json(), "data_order": data_order(run.config)},
        rank_state=random_state(run.step.device),
        config_yaml=run.identity.config_yaml,
        hashes=run.identity.hashes,
    )


def _collect(run: Run, *, wait: bool = False) -> None:
    """Tell of saves that ended, and take note of the newest."""
    for result in run.saver.wait() if wait else run.saver.poll():
        run.save_error = result.error
        run.monitor.save_ended(result)
        if result.committed is not None:
            run.checkpoint_url = run.store.url_of(f"{CHECKPOINTS}/{result.committed.name}")
            run.pulse.tell(
                last_checkpoint={
                    "name": result.committed.name,
                    "step": result.committed.step,
                    "time": result.committed.committed_at.isoformat(timespec="seconds"),
                    "url": run.checkpoint_url,
                },
                checkpoint_bytes=result.committed.bytes,
                checkpoint_duration_seconds=result.duration_seconds,
            )
            head = {**_record_head(run), "step": result.step}
            run.monitor.event(head, "checkpoint", message=result.committed.name)
            run.console.say(
                f"saved {result.committed.name} ({result.committed.bytes / 2**20:.1f} MiB in "
                f"{result.duration_seconds:.1f} s, training waited {result.stall_seconds:.2f} s)"
            )
        elif result.fenced is not None:
            run.fenced = result.fenced
        else:
            run.save_clock.failed(time.monotonic())
            head = {**_record_head(run), "step": result.step}
            run.monitor.event(head, "checkpoint_failed", message=result.error or "")
            if run.rank == 0:
                run.pulse.tell(**run.monitor.account(_record_head(run)))
            run.console.say(f"WARNING {result.error}; training goes on, the last good checkpoint stays")
        if run.history is not None:
            run.history.flush(time.monotonic())
        if run.trackers is not None:
            run.trackers.flush()


def _record_head(run: Run) -> dict[str, object]:
    return {
        "time": _now(),
        "run": run.config.name,
        "attempt": attempt_name(run.attempt),
        "step": run.progress.step,
        "tokens": run.progress.tokens,
        "epoch": run.progress.epoch,
    }


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def _in_seconds(seconds: float | None) -> str | None:
    """The time after so many seconds, UTC."""
    if seconds is None:
        return None
    return (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat(timespec="seconds")


def _emit(run: Run, record: dict[str, object]) -> None:
    # JSON has no NaN: a figure that is not a number is null.
    for key, value in record.items():
        if isinstance(value, float) and not math.isfinite(value):
            record[key] = None
    run.console.metrics(record)
    _keep(run, "training", record)


def _keep(run: Run, kind: Kind, record: dict[str, object]) -> None:
    """A line for the run's lines files and for trackers; nobody changes it from here on."""
    if run.history is not None:
        run.history.write(record, time.monotonic(), name=kind)
    if run.trackers is not None:
        run.trackers.write(kind, record)
