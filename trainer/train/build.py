"""Build the model of a run, sharded over its ranks, and what steps it. Called by set-up and by `task: evaluate`."""

from __future__ import annotations

import torch

from trainer.config import RunConfig
from trainer.model.config import ModelConfig
from trainer.model.decoder import Decoder
from trainer.model.init import initialise
from trainer.model.lora import add_adapters
from trainer.parallel.compile import compile_blocks, use_compile_cache
from trainer.parallel.fsdp import materialise, shard_model
from trainer.parallel.mesh import make_mesh
from trainer.parallel.precision import COMPUTE_DTYPE, LossScaler, use_fp8
from trainer.parallel.world import World
from trainer.train.datasets import Data
from trainer.train.optimizer import build_optimizers
from trainer.train.step import StepContext
from trainer.train.teacher import Teaching, build_teacher


def build_step(config: RunConfig, world: World, data: Data, teaching: Teaching | None) -> StepContext:
    """The model with its optimizers, and the teacher if there is one: what a step works with."""
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
    """The decoder, sharded. Recomputation, compilation, FSDP: in this order.

    Its parameters have storage and no values yet: drawing them takes longer than anything else of a start, and a run
    that goes on has them from its checkpoint. One that begins calls `initialise`.

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
    materialise(model, device=world.device, offload=config.parallel.offload)
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
    materialise(trial, device=world.device, offload=False)
    initialise(trial, config.seed)
    return trial.to(COMPUTE_DTYPE[config.precision])
