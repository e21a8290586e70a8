"""Put one attempt of a run together: data, model, optimizers, claim, checkpoint.

Called by the worker after the process group is up. The order matters: what the user can have got wrong is looked at
before anything is claimed or written.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from dataclasses import asdict
from datetime import UTC, datetime

import torch

from trainer.checkpoint.attempts import Attempt, AttemptClaim, PreviousEnd, claim_attempt, recent_failures
from trainer.checkpoint.layout import RUN_FILE, attempt_name
from trainer.checkpoint.load import Loaded
from trainer.checkpoint.ranks import Ranks
from trainer.checkpoint.save import Hashes, Saver
from trainer.checkpoint.store import Store, open_run
from trainer.config import RunConfig, total_steps
from trainer.config_file import run_config_yaml
from trainer.elastic.launcher import PREVIOUS_END_VARIABLE
from trainer.elastic.pod import host_name
from trainer.elastic.pulse import Pulse
from trainer.elastic.signals import StopFlag
from trainer.errors import UserError
from trainer.evaluate.samples import build_sampler
from trainer.metrics.console import RunConsole, human_number
from trainer.metrics.goodput import Bucket, GoodputClock
from trainer.metrics.hardware import device_name, peak_flops_per_second
from trainer.metrics.history import History
from trainer.metrics.machine import Machine, Place
from trainer.metrics.throughput import ThroughputMeter
from trainer.metrics.trackers.feed import Trackers
from trainer.metrics.trackers.start import check_trackers, start_trackers
from trainer.model.init import initialise
from trainer.model.size import count_parameters, trained_flops_per_token
from trainer.parallel.compile import is_compiled
from trainer.parallel.precision import check_precision
from trainer.parallel.world import World
from trainer.settings import settings_sha256
from trainer.train.build import build_step
from trainer.train.datasets import Data, build_loader, open_data
from trainer.train.initial_weights import find_initial_weights, load_initial_weights
from trainer.train.loop import Identity, Run
from trainer.train.monitoring import build_monitor
from trainer.train.restore import rank_seed, restore, restore_progress
from trainer.train.save_clock import SaveClock
from trainer.train.state import Progress
from trainer.train.step import StepContext
from trainer.train.teacher import find_teaching

# Several of them fit into one line to the launcher.
_FAILURE_CHARACTERS = 200


def set_up(config: RunConfig, world: World, signals: StopFlag, pulse: Pulse, clock: GoodputClock) -> Run | None:
    """Everything one attempt needs, restored from the checkpoint that `config.resume` names. Collective.

    None, with a word to the user and nothing claimed, if that checkpoint is of the run's last step or beyond.
    """
    check_ranks(config, world.world_size)
    check_precision(config.precision, world.device)
    check_trackers(config.trackers)
    torch.manual_seed(rank_seed(config.seed, world.rank, step=0))
    data = open_data(config)
    run_store = open_run(config.checkpoint.store, config.name)
    teaching = find_teaching(config, run_store, data, Ranks(world.save_group))
    if teaching is not None:
        config = teaching.config
    steps = total_steps(config, data.samples)
    sampler = build_sampler(
        config.evaluate.samples, data.train, context=config.model.context, vocab_size=config.model.vocab_size
    )
    context = build_step(config, world, data, teaching)
    identity = identify(config, data)

    pulse.tell(phase="restoring")
    clock.enter(Bucket.CHECKPOINT_RESTORE)
    loaded = restore(config, world, run_store, context, identity)
    if loaded is None:
        initialise(context.model, config.seed)
        _take_initial_weights(config, world, context, data)
    clock.enter(Bucket.TRAINING_PREP)
    progress = restore_progress(config, world, context, loaded)
    if teaching is not None:
        progress.teacher = asdict(teaching.record)
    console = RunConsole(total_steps=steps, first_step=progress.step, rank=world.rank)
    if loaded and progress.step >= steps:
        console.close()
        console.say(
            f"run {config.name} is complete: {loaded.checkpoint.url} is of step {progress.step}, the run's length is "
            f"{steps} steps; raise steps, epochs or tokens to go on"
        )
        return None
    machine = Machine(world.device, host=host_name(), tells_of_node=world.local_rank == 0)
    places = Ranks(world.save_group).on_all(lambda: machine.place)
    attempt = _claim(world, run_store, loaded, identity, places)
    _introduce(console, config, world, attempt, loaded, steps, compiled=is_compiled(context.model))
    if teaching is not None:
        console.say(teaching.introduction)
    history = History(run_store, attempt_name(attempt.number)) if world.rank == 0 else None
    if world.rank == 0:
        pulse.tell(attempt=attempt_name(attempt.number))
        _tell_failures(config, run_store, pulse)
    return Run(
        config=config,
        identity=identity,
        store=run_store,
        attempt=attempt.number,
        rank=world.rank,
        total_steps=steps,
        step=context,
        loader=build_loader(config, world, data, progress.step, teaching.logits if teaching else None),
        validation=data.validation,
        progress=progress,
        saver=_build_saver(config, world, attempt),
        save_clock=SaveClock(config.checkpoint.every_seconds, time.monotonic()),
        signals=signals,
        pulse=pulse,
        console=console,
        history=history,
        monitor=build_monitor(config, world, clock, machine, places, attempt, loaded, progress, history),
        trackers=_start_trackers(config, attempt, progress) if world.rank == 0 else None,
        sampler=sampler,
        meter=_build_meter(config, world),
        checkpoint_url=loaded.checkpoint.url if loaded else None,
    )


def _take_initial_weights(config: RunConfig, world: World, context: StepContext, data: Data) -> None:
    """Of a run that starts at step 0, if it does not start from random ones."""
    reference = config.initial_weights
    if reference is not None:
        ranks = Ranks(world.save_group)
        weights = ranks.on_first(lambda: find_initial_weights(reference, config.model, data.tokenizer))
        load_initial_weights(context.model, config, world, weights)


def _build_saver(config: RunConfig, world: World, attempt: Attempt) -> Saver:
    return Saver(
        attempt,
        group=world.save_group,
        asynchronous=config.checkpoint.asynchronous,
        streams=config.checkpoint.streams,
        local=config.checkpoint.local,
        keep=config.checkpoint.keep,
    )


def _start_trackers(config: RunConfig, attempt: Attempt, progress: Progress) -> Trackers | None:
    return start_trackers(
        config.trackers,
        attempt.run,
        attempt_name(attempt.number),
        first_step=progress.step + 1,
        settings=config.model_dump(mode="json"),
    )


def _build_meter(config: RunConfig, world: World) -> ThroughputMeter:
    return ThroughputMeter(
        tokens_per_step=config.batch.sequences * config.sequence_length,
        flops_per_token=trained_flops_per_token(
            config.model, config.sequence_length, lora=config.lora, teacher=config.live_teacher
        ),
        peak_flops_per_second=peak_flops_per_second(device_name(world.device)),
        world_size=world.world_size,
    )


def check_ranks(config: RunConfig, ranks: int) -> None:
    """UserError if a rank would have nothing to do."""
    if ranks > config.batch.sequences:
        raise UserError(
            f"{ranks} ranks for batch.sequences {config.batch.sequences}",
            expected="at least one sequence of the global batch for each rank",
            fix="start fewer ranks, or raise batch.sequences",
        )


def identify(config: RunConfig, data: Data) -> Identity:
    """What a checkpoint of this run is tied to."""
    sources = [
        (split.fingerprint, source.split, source.weight)
        for split, source in zip(data.train, config.data.train, strict=True)
    ]
    return Identity(
        config_yaml=run_config_yaml(config),
        hashes=Hashes(
            config_sha256=settings_sha256(config),
            model_sha256=settings_sha256(config.model),
            dataset_sha256=hashlib.sha256(repr(sources).encode()).hexdigest(),
            tokenizer_sha256=data.tokenizer.fingerprint if data.tokenizer else "",
        ),
    )


def _claim(
    world: World,
    run_store: Store,
    loaded: Loaded | None,
    identity: Identity,
    places: list[Place],
) -> Attempt:
    """Claim the next attempt on rank 0, write down its config, and tell the other ranks."""
    ranks = Ranks(world.save_group)
    previous = json.loads(os.environ.get(PREVIOUS_END_VARIABLE, "null"))

    def claim() -> AttemptClaim:
        attempt = claim_attempt(
            run_store,
            world_size=world.world_size,
            config_sha256=identity.hashes.config_sha256,
            base_checkpoint=loaded.checkpoint.base_in(run_store) if loaded is not None else None,
            hosts=sorted({place.host for place in places}),
            image=os.environ.get("GPTRUN_IMAGE"),
            git_commit=os.environ.get("GPTRUN_GIT_COMMIT"),
            previous_end=PreviousEnd(**previous) if previous is not None else None,
        )
        run_store.replace(RUN_FILE, identity.config_yaml.encode())
        return attempt.claim

    return Attempt(run_store, ranks.on_first(claim))


def _tell_failures(config: RunConfig, run_store: Store, pulse: Pulse) -> None:
    """Failures of earlier attempts: the coordinator that counts them may be newer than they are."""
    window = config.elastic.budget.window_seconds
    failures = recent_failures(run_store, within_seconds=window, now=datetime.now(UTC))
    if failures:
        newest = failures[-config.elastic.budget.failures - 1 :]
        pulse.tell(failures=[{"age_seconds": age, "message": message[:_FAILURE_CHARACTERS]} for age, message in newest])


def _introduce(
    console: RunConsole,
    config: RunConfig,
    world: World,
    attempt: Attempt,
    loaded: Loaded | None,
    steps: int,
    *,
    compiled: bool,
) -> None:
    """What a person wants to know before the first step, derived values included."""
    parallel = config.parallel
    where = f"{world.world_size} x {device_name(world.device)}"
    micro = -(-config.batch.sequences // world.world_size // config.batch.micro_sequences)
    tokens = config.batch.sequences * config.sequence_length
    console.say(
        f"run {config.name}, attempt {attempt_name(attempt.number)} on {where}: {config.model.family}, "
        f"{human_number(count_parameters(config.model))} parameters, {config.precision}, shard {parallel.shard}"
        + (", compiled" if compiled else "")
    )
    console.say(
        f"{steps} steps of {tokens} tokens ({config.batch.sequences} sequences of {config.sequence_length}, "
        f"{micro} micro-batch{'' if micro == 1 else 'es'} a rank); store {attempt.run.url}"
    )
    if loaded is None:
        reason = "as resume: none asks" if config.resume == "none" else "the store holds no checkpoint of this run"
        weights = f"; weights of {config.initial_weights}" if config.initial_weights else ""
        console.say(f"starting at step 0: {reason}{weights}")
    else:
        console.say(
            f"going on from {loaded.checkpoint.url}: step {loaded.committed.step}, loss {loaded.committed.loss:.4f}"
        )
