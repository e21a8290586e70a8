"""Memory of one GPU at the peak of a training step, by part.

Follows the trainer's own step (`trainer.train.step`, `trainer.parallel.fsdp`, `trainer.model`) moment by moment: the
end of the loss, its backward, the last block's backward, the end of the backward pass, the update. The largest decides.
Blocks run eagerly here; compiled ones keep less. `benchmarks/plan_memory.py` compares with torch's memory tracker.

Pure; called by `trainer.plan.plan` and `trainer.plan.search`.

Letters in formulas: N tokens of a micro-batch, d width, f width of the MLP, V rows of the vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from trainer.config import RunConfig
from trainer.model.config import ModelSettings
from trainer.model.size import (
    count_adapter_parameters,
    count_block_parameters,
    count_parameters,
    device_chunk_tokens,
)
from trainer.parallel.groups import shard_group_size

COMPUTE_BYTES = {"fp32": 4, "bf16": 2, "fp16": 2, "fp8": 2}
"""Bytes of a value in forward and backward."""
_FP32 = 4
_TOKEN_ID_BYTES = 8

RESERVE_BYTES = 1_500_000_000
"""What no tracker sees: CUDA context and kernels (0.5 GB), NCCL's buffers (0.5 GB), cuBLAS workspaces and compiler."""
FRAGMENTATION_RATIO = 0.05
"""Share of the tensors' memory that the caching allocator holds beside them: an estimate."""


@dataclass(frozen=True)
class Memory:
    """Bytes on one GPU, at the moment when they are most."""

    weights: float
    """This rank's shard in fp32, frozen ones included; on the host with offload."""
    gradients: float
    """Those that are kept between micro-batches and until the update."""
    optimizer_state: float
    """Moments of AdamW (two), one of Muon's matrices."""
    gathered_weights: float
    """Whole weights in the compute type: the root's, and those of the block at work or of all blocks."""
    activations: float
    """What forward keeps for backward."""
    backward: float
    """Gradients of activations and recomputed activations of the block at work, gradients on their way."""
    loss: float
    """Logits of one chunk, gradients of the head and of the last hidden state."""
    communication: float
    """Buffers of all-gather and reduce-scatter."""
    teacher: float
    """Of a teacher beside the student: its shard and its root whole in the compute type, what it says of a chunk."""
    reserve: float
    """CUDA context, NCCL, workspaces, fragmentation of the allocator."""
    moment: str
    """When that is."""

    @property
    def parts(self) -> dict[str, int]:
        """Bytes by part; their sum is what the GPU has to have."""
        return {name: round(value) for name, value in vars(self).items() if name != "moment"}

    @property
    def total(self) -> int:
        """What the GPU has to have."""
        return sum(self.parts.values())

    @property
    def tracked(self) -> int:
        """Without the reserve: the tensors."""
        return self.total - self.parts["reserve"]


@dataclass(frozen=True)
class _Shape:
    """What the formulas need of a run."""

    model: ModelSettings
    recompute: str
    tokens: int
    """Of a micro-batch: N."""
    compute_bytes: int
    micro_batches: int
    """Of one rank in one step."""
    shard_ranks: int
    wrapped: bool
    """By FSDP; a single rank in fp32 is not."""
    regathers: bool
    """Weights of a block are gathered anew for backward, and gradients are shared out after every micro-batch."""
    root_parameters: int
    block_parameters: int
    trained_root_parameters: int
    """Of `root_parameters` those with gradients: none where adapters are trained."""
    trained_block_parameters: int
    teacher: ModelSettings | None
    state_values: float
    """Values of optimizer state per rank."""
    offload: bool

    @property
    def parameters(self) -> int:
        return self.root_parameters + self.model.layers * self.block_parameters

    @property
    def trained_parameters(self) -> int:
        return self.trained_root_parameters + self.model.layers * self.trained_block_parameters

    @property
    def trains_root(self) -> bool:
        """Whether the embedding and the head have gradients."""
        return self.trained_root_parameters > 0

    @property
    def hidden_bytes(self) -> int:
        """One tensor of N x d."""
        return self.tokens * self.model.width * self.compute_bytes


def plan_memory(config: RunConfig, *, world_size: int, local_world_size: int) -> Memory:
    """Memory of one of `world_size` GPUs, `local_world_size` of them in a machine.

    Raises UserError if the ranks cannot be divided into the sharding groups that the run asks for.
    """
    shape = _shape(config, world_size, local_world_size)
    moments = [step(shape) for step in _MOMENTS]
    resident = _resident(shape)
    totals = [sum(resident.values()) + sum(v for v in moment.values() if not isinstance(v, str)) for moment in moments]
    highest = totals.index(max(totals))
    parts: dict[str, Any] = {**dict.fromkeys(_ADDED, 0.0), **resident}
    for name, value in moments[highest].items():
        parts[name] = parts.get(name, 0.0) + value if name != "moment" else value
    return Memory(**parts, reserve=RESERVE_BYTES + FRAGMENTATION_RATIO * totals[highest])


_ADDED = ("gradients", "gathered_weights", "activations", "backward", "loss", "communication")


def micro_batches_per_rank(config: RunConfig, world_size: int) -> int:
    """Forward and backward passes of the busiest rank in one step."""
    rank_sequences = -(-config.batch.sequences // world_size)
    return -(-rank_sequences // config.batch.micro_sequences)


def kept_values_per_token(model: ModelSettings, recompute: str) -> float:
    """Values in the compute type that one block keeps for backward, per token.

    none: the inputs of both norms (one if parallel), of four linear layers and of attention. selective: the block's
    input and what matrix products and attention gave. full: the block's input.
    """
    d, f = model.width, model.ffn_width
    qkv = (model.heads + 2 * model.kv_heads) * model.head_width
    if recompute == "full":
        return d
    if recompute == "selective":
        return d + qkv + d + d + (2 * f if model.mlp == "swiglu" else f) + d
    norms = (1 if model.residual == "parallel" else 2) * d + 2 * d
    # A rotation writes queries and keys anew; the values stay in the projection's result, which stays with them.
    rotated = (model.heads + model.kv_heads) * model.head_width if model.positions == "rope" else 0
    dropped = 2 * d if model.dropout > 0 else 0
    return norms + qkv + rotated + d + (4 if model.mlp == "swiglu" else 2) * f + dropped


def _shape(config: RunConfig, world_size: int, local_world_size: int) -> _Shape:
    model, parallel = config.model, config.parallel
    padding = (1 if model.tied else 2) * (model.padded_vocab_size - model.vocab_size) * model.width
    parameters = count_parameters(model) + padding
    block = count_block_parameters(model)
    shard_ranks = shard_group_size(parallel, world_size=world_size, local_world_size=local_world_size)
    matrices = count_block_parameters(model, matrices_only=True) * model.layers
    root = parameters - model.layers * block
    trained_root, trained_block = root, block
    if config.lora is not None:
        trained_root, trained_block = 0, count_adapter_parameters(model, config.lora) // model.layers
        block += trained_block
    values = 2 * (trained_root + model.layers * trained_block)
    values -= matrices if config.optimizer.type == "muon" else 0
    return _Shape(
        model=model,
        recompute=parallel.recompute,
        tokens=config.batch.micro_sequences * config.sequence_length,
        compute_bytes=COMPUTE_BYTES[config.precision],
        micro_batches=micro_batches_per_rank(config, world_size),
        shard_ranks=shard_ranks,
        wrapped=world_size > 1 or config.precision != "fp32" or parallel.offload,
        regathers=parallel.shard in ("full", "hybrid"),
        root_parameters=root,
        block_parameters=block,
        trained_root_parameters=trained_root,
        trained_block_parameters=trained_block,
        teacher=config.live_teacher,
        state_values=values / shard_ranks,
        offload=parallel.offload,
    )


def _resident(shape: _Shape) -> dict[str, float]:
    """What lies on the GPU all the time."""
    if shape.offload:
        return {"weights": 0.0, "optimizer_state": 0.0, "teacher": _whole_root_of_teacher(shape)}
    teacher = 0.0
    if shape.teacher is not None:
        teacher = shape.compute_bytes * count_parameters(shape.teacher) / shape.shard_ranks
    return {
        "weights": _FP32 * shape.parameters / shape.shard_ranks,
        "optimizer_state": _FP32 * shape.state_values,
        "teacher": teacher + _whole_root_of_teacher(shape),
    }


def _whole_root_of_teacher(shape: _Shape) -> float:
    """Its embedding and head, which stay gathered."""
    if shape.teacher is None or not shape.wrapped:
        return 0.0
    blocks = shape.teacher.layers * count_block_parameters(shape.teacher)
    return shape.compute_bytes * (count_parameters(shape.teacher) - blocks)


def _said(shape: _Shape) -> dict[str, float]:
    """A teacher's last hidden state, and its logits and both distributions of one chunk."""
    if shape.teacher is None:
        return {}
    vocabulary = shape.model.padded_vocab_size
    chunk = min(device_chunk_tokens(vocabulary), shape.tokens)
    logits = chunk * vocabulary * (shape.compute_bytes + 3 * _FP32)
    return {"teacher": shape.tokens * shape.teacher.width * shape.compute_bytes + logits}


def _carried(shape: _Shape) -> dict[str, float]:
    """Gradients of earlier micro-batches, when the last one begins; what the last reduce-scatter still holds."""
    if shape.micro_batches == 1:
        return {}
    if not shape.wrapped or not shape.regathers:
        return {"gradients": _FP32 * shape.trained_parameters}
    shard = 0.0 if shape.offload else _FP32 * shape.trained_parameters / shape.shard_ranks
    return {"gradients": shard, "communication": _FP32 * shape.trained_root_parameters}


def _kept_by_all_blocks(shape: _Shape) -> float:
    model = shape.model
    per_token = kept_values_per_token(model, shape.recompute) * shape.compute_bytes
    if shape.recompute != "full":
        per_token += _FP32 * model.heads  # logsumexp of attention
    return shape.tokens * per_token * model.layers


def _ends(shape: _Shape) -> float:
    """Token ids, the last block's result and its norm."""
    return 2 * shape.tokens * _TOKEN_ID_BYTES + 2 * shape.hidden_bytes


def _gathered(shape: _Shape, blocks: int) -> float:
    if not shape.wrapped:
        return 0.0
    blocks = blocks if shape.regathers else shape.model.layers
    return shape.compute_bytes * (shape.root_parameters + blocks * shape.block_parameters)


def _buffer(shape: _Shape) -> float:
    """The all-gather's result of one block."""
    return shape.compute_bytes * shape.block_parameters if shape.wrapped and shape.shard_ranks > 1 else 0.0


def _end_of_loss(shape: _Shape) -> dict[str, Any]:
    """The loss computes its gradients while it has the logits: all activations are there."""
    vocabulary = shape.model.padded_vocab_size
    chunk = min(device_chunk_tokens(vocabulary), shape.tokens)
    head = vocabulary * shape.model.width if shape.trains_root else 0
    several = shape.tokens > chunk
    weight_gradient = head * (_FP32 if several else shape.compute_bytes)
    product = head * shape.compute_bytes if several and shape.compute_bytes != _FP32 else 0
    logits = chunk * vocabulary * (shape.compute_bytes + _FP32)
    return _sum(
        _carried(shape),
        _said(shape),
        {
            "moment": "end of the loss",
            "activations": _kept_by_all_blocks(shape) + _ends(shape),
            "gathered_weights": _gathered(shape, 0),
            "communication": _buffer(shape),
            "loss": logits + shape.hidden_bytes + weight_gradient + product,
        },
    )


def _backward_of_loss(shape: _Shape) -> dict[str, Any]:
    """Its gradients are multiplied in fp32 by what comes from above, which is the number of tokens and the scale."""
    size = shape.compute_bytes
    several = shape.tokens > device_chunk_tokens(shape.model.padded_vocab_size)
    kept = _FP32 if several else size
    product = _FP32 if size == _FP32 else (_FP32 + size if kept == _FP32 else 2 * _FP32)
    head = shape.model.padded_vocab_size * shape.model.width if shape.trains_root else 0
    return _sum(
        _carried(shape),
        {
            "moment": "backward of the loss",
            "activations": _kept_by_all_blocks(shape) + _ends(shape),
            "gathered_weights": _gathered(shape, 0),
            "communication": _buffer(shape),
            "loss": 2 * shape.hidden_bytes + head * (kept + product),
        },
    )


def _first_backward(shape: _Shape) -> dict[str, Any]:
    """The last block's MLP: all other blocks' activations are there, and its own once more if it recomputes."""
    model = shape.model
    recomputed = kept_values_per_token(model, "none") - kept_values_per_token(model, shape.recompute)
    growing = (2 if model.mlp == "swiglu" else 1) * model.ffn_width + 2 * model.width
    block = shape.tokens * shape.compute_bytes * (recomputed + growing)
    weight_gradients = model.width * model.ffn_width * shape.compute_bytes if shape.trains_root else 0
    head_gradient = model.padded_vocab_size * model.width * shape.compute_bytes if shape.trains_root else 0
    return _sum(
        _carried(shape),
        {
            "moment": "backward of the last block",
            "activations": _kept_by_all_blocks(shape) + 2 * shape.tokens * _TOKEN_ID_BYTES,
            "gathered_weights": _gathered(shape, 1),
            "communication": _buffer(shape) if shape.regathers else 0.0,
            "backward": block + weight_gradients + head_gradient,
        },
    )


def _end_of_backward(shape: _Shape) -> dict[str, Any]:
    """The root's gradients are shared out; those of the blocks have gone that way before."""
    table = shape.model.padded_vocab_size * shape.model.width * shape.compute_bytes if shape.trains_root else 0
    root, shards = _FP32 * shape.trained_root_parameters, shape.shard_ranks
    blocks = _FP32 * shape.model.layers * shape.trained_block_parameters
    moment = {"moment": "end of the backward pass", "activations": 2 * shape.tokens * _TOKEN_ID_BYTES}
    if not shape.wrapped:
        return {**moment, "gradients": root + blocks, "backward": shape.hidden_bytes + table}
    own_shard = 0.0 if shape.offload else 1 / shards
    if shape.micro_batches > 1 and not shape.regathers:
        # Whole gradients of the root beside the copy that is sent.
        return {**moment, "gradients": root + blocks * own_shard, "communication": root}
    earlier = root * own_shard if shape.micro_batches > 1 else 0.0
    return {
        **moment,
        "gradients": blocks * own_shard + earlier,
        "communication": root * (1 + 1 / shards),
        "backward": table,
    }


def _update(shape: _Shape) -> dict[str, Any]:
    """Gradients in their final form; the fused optimizer needs nothing else."""
    return {
        "moment": "update",
        "gradients": 0.0 if shape.offload else _FP32 * shape.trained_parameters / shape.shard_ranks,
    }


_MOMENTS = (_end_of_loss, _backward_of_loss, _first_backward, _end_of_backward, _update)


def _sum(*parts: dict[str, Any]) -> dict[str, Any]:
    total: dict[str, Any] = {}
    for part in parts:
        for name, value in part.items():
            total[name] = value if isinstance(value, str) else total.get(name, 0.0) + value
    return total
