"""Put one attempt of a run together: data, model, optimizers, claim, checkpoint.

Called by the worker after the process group is up; `trainer.train.evaluation` shares parts of it. The order matters:
what the user can have got wrong is looked at before anything is claimed or written.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

import torch

from trainer.checkpoint.attempts import Attempt, AttemptClaim, PreviousEnd, claim_attempt, recent_failures
from trainer.checkpoint.layout import RUN_FILE, Checkpoint, attempt_name
from trainer.checkpoint.load import Loaded, find_checkpoint, load_checkpoint
from trainer.checkpoint.ranks import Ranks
from trainer.checkpoint.references import resume_reference
from trainer.checkpoint.save import Hashes, Saver
from trainer.checkpoint.store import Store, open_run
from trainer.config import RunConfig, total_steps
from trainer.config_file import run_config_yaml
from trainer.elastic.launcher import PREVIOUS_END_VARIABLE
from trainer.elastic.pulse import Pulse
from trainer.elastic.signals import StopFlag
from trainer.elastic.workers import REPORT_FOLDER_VARIABLE
from trainer.errors import UserError
from trainer.evaluate.samples import build_sampler
from trainer.metrics.console import RunConsole, human_number
from trainer.metrics.goodput import Bucket, GoodputClock
from trainer.metrics.hardware import device_name, peak_flops_per_second
from trainer.metrics.history import History
from trainer.metrics.machine import Machine, Place
from trainer.metrics.throughput import ThroughputMeter
from trainer.metrics.trackers.start import check_trackers, start_trackers
from trainer.model.config import ModelConfig
from trainer.model.decoder import Decoder
from trainer.model.lora import add_adapters
from trainer.model.size import count_parameters, trained_flops_per_token
from trainer.parallel.compile import compile_blocks, use_compile_cache
from trainer.parallel.fsdp import materialise, shard_model
from trainer.parallel.mesh import make_mesh
from trainer.parallel.precision import COMPUTE_DTYPE, LossScaler, check_precision, use_fp8
from trainer.parallel.world import World
from trainer.settings import settings_sha256
from trainer.train.datasets import Data, build_loader, open_data
from trainer.train.initial_weights import find_initial_weights, load_initial_weights
from trainer.train.loop import Identity, Run
from trainer.train.monitoring import build_monitor
from trainer.train.optimizer import build_optimizers
from trainer.train.save_clock import SaveClock
from trainer.train.state import Progress, data_order, restore_random_state, restore_tensors, tensors_of
from trainer.train.step import StepContext
from trainer.train.teacher import Teaching, build_teacher, find_teaching

# Several of them fit into one line to the launcher.
_FAILURE_CHARACTERS = 200


def set_up(config: RunConfig, world: World, signals: StopFlag, pulse: Pulse, clock: GoodputClock) -> Run | None:
    """Everything one attempt needs, restored from the checkpoint that `config.resume` names. Collective.

    None, with a word to the user and nothing claimed, if that checkpoint is of the run's last step or beyond.
    """
    check_ranks(config, world.world_size)
    check_precision(config.precision, world.device)
    check_trackers(config.trackers)
    torch.manual_seed(_rank_seed(config.seed, world.rank, step=0))
    data = open_data(config)
    run_store = open_run(config.checkpoint.store, config.name)
    teaching = find_teaching(config, run_store, data, Ranks(world.save_group))
    if teaching is not None:
        config = teaching.config
    steps = total_steps(config, data.samples)
    sampler = build_sampler(
        config.evaluate.samples, data.train, context=config.model.context, vocab_size=config.model.vocab_size
    )
    context = _build_step(config, world, data, teaching)
    identity = identify(config, data)

    pulse.tell(phase="restoring")
    clock.enter(Bucket.CHECKPOINT_RESTORE)
    loaded = _restore(config, world, run_store, context, identity)
    if loaded is None and config.initial_weights is not None:
        reference, ranks = config.initial_weights, Ranks(world.save_group)
        weights = ranks.on_first(lambda: find_initial_weights(reference, config.model, data.tokenizer))
        load_initial_weights(context.model, config, world, weights)
    clock.enter(Bucket.TRAINING_PREP)
    progress = Progress.from_json(loaded.progress) if loaded else Progress()
    if teaching is not None:
        progress.teacher = asdict(teaching.record)
    if loaded:
        _restore_scaler(context, progress)
        _restore_random(config, world, loaded, progress.step)
    console = RunConsole(total_steps=steps, first_step=progress.step, rank=world.rank)
    if loaded and progress.step >= steps:
        console.close()
        console.say(
            f"run {config.name} is complete: {loaded.checkpoint.url} is of step {progress.step}, the run's length is "
            f"{steps} steps; raise steps, epochs or tokens to go on"
        )
        return None
    machine = Machine(world.device, tells_of_node=world.local_rank == 0)
    places = Ranks(world.save_group).on_all(lambda: machine.place)
    attempt = _claim(config, world, run_store, loaded, identity, places)
    _introduce(console, config, world, attempt, loaded, steps)
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
        saver=Saver(
            attempt,
            group=world.save_group,
            asynchronous=config.checkpoint.asynchronous,
            streams=config.checkpoint.streams,
            local=config.checkpoint.local,
            keep=config.checkpoint.keep,
        ),
        save_clock=SaveClock(config.checkpoint.every_seconds, time.monotonic()),
        signals=signals,
        pulse=pulse,
        console=console,
        history=history,
        monitor=build_monitor(
            config,
            world,
            clock,
            machine=machine,
            places=places,
            run=run_store,
            claim=attempt.claim,
            loaded=loaded,
            progress=progress,
            history=history,
        ),
        trackers=start_trackers(
            config.trackers,
            run_store,
            attempt_name(attempt.number),
            first_step=progress.step + 1,
            settings=config.model_dump(mode="json"),
        )
        if world.rank == 0
        else None,
        sampler=sampler,
        meter=ThroughputMeter(
            tokens_per_step=config.batch.sequences * config.sequence_length,
            flops_per_token=trained_flops_per_token(
                config.model, config.sequence_length, lora=config.lora, teacher=config.live_teacher
            ),
            peak_flops_per_second=peak_flops_per_second(device_name(world.device)),
            world_size=world.world_size,
        ),
        checkpoint_url=loaded.checkpoint.url if loaded else None,
    )


def check_ranks(config: RunConfig, ranks: int) -> None:
    """UserError if a rank would have nothing to do."""
    if ranks > config.batch.sequences:
        raise UserError(
            f"{ranks} ranks for batch.sequences {config.batch.sequences}",
            expected="at least one sequence of the global batch for each rank",
            fix="start fewer ranks, or raise batch.sequences",
        )


def _build_step(config: RunConfig, world: World, data: Data, teaching: Teaching | None) -> StepContext:
    model = build_model(config, world, data, teaching.width if teaching else None)
    return StepContext(
        model=model,
        optimizers=build_optimizers(model, config.optimizer),
        parallel=config.parallel,
        device=world.device,
        world_size=world.world_size,
        batch_sequences=config.batch.sequences,
        micro_sequences=config.batch.micro_sequences,
        clip_norm=config.optimizer.clip_norm,
        scaler=LossScaler() if config.precision == "fp16" else None,
        packed=data.packed,
        teacher=build_teacher(teaching, world, data.document_end_id) if teaching else None,
    )


def build_model(config: RunConfig, world: World, data: Data, teacher_width: int | None = None) -> Decoder:
    """The decoder, sharded and with its initial weights. Recomputation, compilation, FSDP: in this order.

    teacher_width: of a teacher whose hidden states the run is to come near.
    """
    model = _empty_model(config, config.model, data.document_end_id, teacher_width)
    if config.precision == "fp8":
        use_fp8(model)
    if config.parallel.compile:
        use_compile_cache(config.parallel)
        # Of packed rows blocks get a mask, as they do where any token ends a document.
        trial = _trial_model(config, world, 0 if data.packed else data.document_end_id)
        shape = (config.batch.micro_sequences, config.sequence_length)
        compile_blocks(model, trial, tokens_shape=shape, device=world.device)
    mesh = make_mesh(
        config.parallel,
        world_size=world.world_size,
        local_world_size=world.local_world_size,
        device_type=world.device.type,
    )
    shard_model(model, mesh, config.parallel, config.precision)
    materialise(model, device=world.device, offload=config.parallel.offload, seed=config.seed)
    return model


def _empty_model(
    config: RunConfig, model_config: ModelConfig, document_end_id: int | None, teacher_width: int | None = None
) -> Decoder:
    """A decoder on the meta device, with the adapters and projections that the run trains."""
    with torch.device("meta"):
        model = Decoder(model_config, recompute=config.parallel.recompute, document_end_id=document_end_id)
        if config.lora is not None:
            add_adapters(model, config.lora)
        hidden = config.distill.hidden if config.distill else None
        if hidden is not None and teacher_width is not None and teacher_width != model_config.width:
            model.add_projections(len(hidden.layers), teacher_width)
    return model


def _trial_model(config: RunConfig, world: World, document_end_id: int | None) -> Decoder:
    """A decoder of one block, in the dtype that FSDP computes with, to try the compiler on."""
    trial = _empty_model(config, config.model.model_copy(update={"layers": 1}), document_end_id)
    if config.precision == "fp8":
        use_fp8(trial)
    materialise(trial, device=world.device, offload=False, seed=config.seed)
    return trial.to(COMPUTE_DTYPE[config.precision])


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


def _restore_scaler(context: StepContext, progress: Progress) -> None:
    if context.scaler is not None and progress.loss_scale is not None:
        context.scaler.scale = progress.loss_scale
        context.scaler.good_steps = progress.loss_scale_good_steps


def _restore_random(config: RunConfig, world: World, loaded: Loaded, step: int) -> None:
    """This rank's own state at the same world size; else a seed that no other rank and step has."""
    if loaded.rank_state is not None:
        restore_random_state(loaded.rank_state, world.device)
    else:
        torch.manual_seed(_rank_seed(config.seed, world.rank, step))


def _rank_seed(seed: int, rank: int, step: int) -> int:
    return int.from_bytes(hashlib.sha256(f"{seed}/{rank}/{step}".encode()).digest()[:8], "big") >> 1


def _restore(
    config: RunConfig, world: World, run_store: Store, context: StepContext, identity: Identity
) -> Loaded | None:
    """Load the checkpoint to go on from into the model; None to start from step 0."""
    ranks = Ranks(world.save_group)
    reference = ranks.on_first(lambda: resume_reference(run_store, config.resume, identity.hashes.config_sha256))
    if reference == "none":
        return None
    resolved = ranks.on_first(lambda: find_checkpoint(run_store, reference))
    if resolved is None:
        return None
    tensors = tensors_of(context.model, context.optimizers)
    loaded = load_checkpoint(
        resolved,
        tensors,
        model_sha256=identity.hashes.model_sha256,
        group=world.save_group,
        streams=config.checkpoint.streams,
        local=config.checkpoint.local,
        # A worker that is killed while it loads leaves what it has fetched to its launcher.
        scratch=os.environ.get(REPORT_FOLDER_VARIABLE),
    )
    check_same_data(loaded.checkpoint, identity)
    check_order_unchanged(config, loaded.checkpoint, loaded.progress)
    restore_tensors(context.model, context.optimizers, tensors)
    return loaded


def check_same_data(checkpoint: Checkpoint, identity: Identity) -> None:
    """UserError if a checkpoint was trained on other data: its step number would mean another place."""
    if checkpoint.committed.dataset_sha256 != identity.hashes.dataset_sha256:
        raise UserError(
            f"{checkpoint.url} was trained on other data than data.train names (or with other weights)",
            expected="the same prepared sets: the position in the data is part of a checkpoint",
            fix="restore data.train, or start a run of another name",
        )


def check_order_unchanged(config: RunConfig, checkpoint: Checkpoint, progress: Mapping[str, Any]) -> None:
    """The step number is the position in the data, which holds only for the same batches in the same order.

    progress: the checkpoint's own; UserError names what differs.
    """
    before = progress["data_order"]
    now = data_order(config)
    changed = [f"{key}: {before[key]} -> {now[key]}" for key in now if before[key] != now[key]]
    if changed:
        raise UserError(
            f"{checkpoint.url} cannot go on with {', '.join(changed)}",
            expected="the values of the checkpoint: they decide which sequences a step reads",
            fix="restore them, or start a run of another name",
        )


def _claim(
    config: RunConfig,
    world: World,
    run_store: Store,
    loaded: Loaded | None,
    identity: Identity,
    places: list[Place],
) -> Attempt:
    """Claim the next attempt on rank 0, write down its config, and tell the other ranks."""
    ranks = Ranks(world.save_group)
    base = None
    if loaded is not None:
        own = loaded.committed.run == config.name and loaded.checkpoint.url.startswith(run_store.url + "/")
        base = loaded.checkpoint.name if own else loaded.checkpoint.url

    previous = json.loads(os.environ.get(PREVIOUS_END_VARIABLE, "null"))

    def claim() -> AttemptClaim:
        attempt = claim_attempt(
            run_store,
            world_size=world.world_size,
            config_sha256=identity.hashes.config_sha256,
            base_checkpoint=base,
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
) -> None:
    """What a person wants to know before the first step, derived values included."""
    parallel = config.parallel
    where = f"{world.world_size} x {device_name(world.device)}"
    micro = -(-config.batch.sequences // world.world_size // config.batch.micro_sequences)
    tokens = config.batch.sequences * config.sequence_length
    console.say(
        f"run {config.name}, attempt {attempt_name(attempt.number)} on {where}: {config.model.family}, "
        f"{human_number(count_parameters(config.model))} parameters, {config.precision}, shard {parallel.shard}"
        + (", compiled" if parallel.compile else "")
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
