"""How long a step takes: work to be done, and the rates at which a machine does it.

A step's work is counted from the model (`step_work`); its time is a sum of terms, each work over a rate. The rates of a
known GPU come from its data sheet and the share of them that published runs reached (docs/decisions/plan.md); those of
any other machine from measured steps (`benchmarks/plan_time.py` fits them). Pure; called by `trainer.plan.plan`.
"""

from __future__ import annotations

from dataclasses import dataclass

from trainer.config import RunConfig
from trainer.metrics.accelerators import Accelerator
from trainer.model.size import (
    count_adapter_parameters,
    count_parameters,
    executed_flops_per_token,
    parameter_flops_per_token,
    trained_flops_per_token,
)
from trainer.parallel.groups import shard_group_size
from trainer.plan.memory import COMPUTE_BYTES, kept_values_per_token, micro_batches_per_rank

# Reads and writes of memory per value that a block keeps: matrix products touch each about three times (forward, and
# both products of backward); operations in between add as much again, fused ones half of that.
_TOUCHES_EAGER = 6.0
_TOUCHES_COMPILED = 4.5
# Per logit in the loss: bf16 written and read by three products, fp32 log-probabilities written and read.
_LOGIT_BYTES = 22
# Per parameter in the update: weight and moments read and written, gradient read twice.
_UPDATE_BYTES = 32
# Share of the machine's memory bandwidth that elementwise kernels reach.
_BANDWIDTH_RATIO = 0.8
# Share of communication that hides behind the arithmetic of other blocks.
_OVERLAP_RATIO = 0.8
_LAUNCH_SECONDS = 40e-6
_PCIE_BYTES_PER_SECOND = 25e9

LOW, TYPICAL, HIGH = 0.65, 0.85, 1.0
"""Shares of the computed speed: a run with what goes wrong in practice, a usual one, one that everything was done for.

Public runs on H100 lie between 0.75 and 1.05 of it (docs/decisions/plan.md)."""


@dataclass(frozen=True)
class StepWork:
    """What the busiest rank does in one step."""

    flops: float
    """Of matrix products."""
    memory_bytes: float
    """Read and written by everything else, activations mostly."""
    update_bytes: float
    """Read and written by the optimizer."""
    communication_bytes: float
    """Sent by this rank."""
    host_bytes: float
    """Between GPU and host, with offload."""
    kernels: float
    """Blocks' passes: each launches dozens of kernels, which takes time where they are small."""


@dataclass(frozen=True)
class Rates:
    """How fast a machine does each kind of work."""

    flops_per_second: float
    memory_bytes_per_second: float
    link_bytes_per_second: float
    seconds_per_kernel: float


@dataclass(frozen=True)
class Speed:
    """Of all ranks together."""

    step_seconds: float
    tokens_per_second: float
    mfu_ratio: float
    """By 6N + 12LdT."""
    parameter_mfu_ratio: float
    """By 6N."""


def step_work(config: RunConfig, *, world_size: int, local_world_size: int) -> StepWork:
    """The work of the busiest of `world_size` ranks; all micro-batches of its step, and the update."""
    model, parallel = config.model, config.parallel
    micro_batches = micro_batches_per_rank(config, world_size)
    # The last micro-batch may be smaller, but never larger than the rank's share.
    sequences = min(-(-config.batch.sequences // world_size), micro_batches * config.batch.micro_sequences)
    tokens = sequences * config.sequence_length
    size = COMPUTE_BYTES[config.precision]
    touches = _TOUCHES_COMPILED if parallel.compile else _TOUCHES_EAGER
    per_block = kept_values_per_token(model, "none") * size * touches
    repeats = {"none": 1.0, "selective": 1.15, "full": 4 / 3}[parallel.recompute]
    parameters = count_parameters(model)
    trained = parameters if config.lora is None else count_adapter_parameters(model, config.lora)
    shards = shard_group_size(parallel, world_size=world_size, local_world_size=local_world_size)
    return StepWork(
        flops=tokens
        * executed_flops_per_token(
            model, config.sequence_length, parallel.recompute, lora=config.lora, teacher=config.live_teacher
        ),
        memory_bytes=tokens
        * (model.layers * per_block * repeats + model.padded_vocab_size * _LOGIT_BYTES + _teacher_bytes(config)),
        update_bytes=_UPDATE_BYTES * trained / shards,
        communication_bytes=communication_bytes(config, world_size=world_size, local_world_size=local_world_size),
        host_bytes=8 * parameters / shards * micro_batches if parallel.offload else 0.0,
        kernels=micro_batches * model.layers * repeats,
    )


def flops_of(config: RunConfig) -> int:
    """FLOP per token of a run by 6N + 12LdT, frozen parameters and a teacher counted for what they do."""
    return trained_flops_per_token(config.model, config.sequence_length, lora=config.lora, teacher=config.live_teacher)


def _teacher_bytes(config: RunConfig) -> float:
    """Memory traffic of a teacher's forward pass per token: a third of what a block trained takes, and its logits."""
    teacher = config.live_teacher
    if teacher is None:
        return 0.0
    touches = _TOUCHES_EAGER / 3
    per_block = kept_values_per_token(teacher, "none") * COMPUTE_BYTES[config.precision] * touches
    return teacher.layers * per_block + teacher.padded_vocab_size * _LOGIT_BYTES


def communication_bytes(config: RunConfig, *, world_size: int, local_world_size: int) -> float:
    """Bytes that one rank sends in a step: all-gathers in the compute type, gradients reduced in fp32.

    A ring of W ranks sends (W - 1) / W of the whole for a gather or a reduce-scatter, twice that for an all-reduce.
    """
    parallel, parameters = config.parallel, count_parameters(config.model)
    teacher = config.live_teacher
    trained = parameters if config.lora is None else count_adapter_parameters(config.model, config.lora)
    micro_batches = micro_batches_per_rank(config, world_size)
    shards = shard_group_size(parallel, world_size=world_size, local_world_size=local_world_size)
    within, copies = (shards - 1) / shards, world_size // shards
    gathers = 2 if parallel.shard in ("full", "hybrid") else 1
    reductions = micro_batches if parallel.shard in ("full", "hybrid") else 1
    gathered = gathers * micro_batches * within * parameters * COMPUTE_BYTES[config.precision]
    reduced = reductions * (within * 4 * trained + 2 * (copies - 1) / copies * 4 * trained / shards)
    if teacher is not None:  # whose forward pass gathers its weights once
        gathered += micro_batches * within * count_parameters(teacher) * COMPUTE_BYTES[config.precision]
    return gathered + reduced


def rates_of(accelerator: Accelerator, *, machines: int, network_bytes_per_second: float) -> Rates:
    """The rates of one GPU of the table; across machines a GPU sends at its share of the network."""
    link = accelerator.link_bytes_per_second
    return Rates(
        flops_per_second=accelerator.dense_flops_per_second * accelerator.matmul_ratio,
        memory_bytes_per_second=accelerator.memory_bytes_per_second * _BANDWIDTH_RATIO,
        link_bytes_per_second=link if machines == 1 else min(link, network_bytes_per_second),
        seconds_per_kernel=_LAUNCH_SECONDS,
    )


def step_seconds(work: StepWork, rates: Rates) -> float:
    """Time of one step: arithmetic, memory traffic, launches, and the communication that does not hide behind them."""
    computing = (
        work.flops / rates.flops_per_second
        + work.memory_bytes / rates.memory_bytes_per_second
        + work.kernels * rates.seconds_per_kernel
    )
    communicating = work.communication_bytes / rates.link_bytes_per_second
    exposed = max(communicating - _OVERLAP_RATIO * computing, (1 - _OVERLAP_RATIO) * communicating)
    updating = work.update_bytes / rates.memory_bytes_per_second + work.host_bytes / _PCIE_BYTES_PER_SECOND
    return computing + exposed + updating


def speed(config: RunConfig, *, seconds: float, world_size: int, peak_flops_per_second: float) -> Speed:
    """What a step of `seconds` is in tokens per second and in both conventions of MFU."""
    tokens_per_second = config.batch.sequences * config.sequence_length / seconds
    peak = world_size * peak_flops_per_second
    return Speed(
        step_seconds=seconds,
        tokens_per_second=tokens_per_second,
        mfu_ratio=tokens_per_second * flops_of(config) / peak,
        parameter_mfu_ratio=tokens_per_second * parameter_flops_per_token(config.model) / peak,
    )
