"""Sentences that say what to change, each drawn from the plan; and the complaint about a run that does not fit.

Pure; called by the command.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

from trainer.errors import UserError
from trainer.plan.hardware import Cluster
from trainer.plan.knobs import SHARDINGS, changed, largest_micro_batch, memory_knobs, memory_on
from trainer.plan.memory import micro_batches_per_rank
from trainer.plan.plan import Plan
from trainer.plan.scaling_law import optimal_tokens_range

_REPEATS_WORTH_LITTLE = 4
"""Epochs up to which repeated text is nearly as good as new (Muennighoff et al. 2023, arXiv:2305.16264)."""
_MULTIPLE = 64


def give_advice(plan: Plan) -> tuple[str, ...]:
    """Everything worth saying, what decides first."""
    return tuple(sentence for topic in _TOPICS for sentence in topic(plan))


def refuse_if_too_large(plan: Plan) -> None:
    """UserError if the run cannot fit: by how much, and which single change helps most."""
    if plan.fits:
        return
    cluster, room = plan.cluster, plan.cluster.accelerator.memory_bytes
    knobs = memory_knobs(plan.config, cluster)
    fitting = [knob for knob in knobs if knob.memory.total <= room]
    if fitting:
        # The least drastic one that is enough; the most helpful one is named too.
        fix = f"{_said(fitting[-1].change)} ({_gb(fitting[-1].memory.total)})"
        if fitting[0] is not fitting[-1]:
            fix += f"; {_said(fitting[0].change)} helps most ({_gb(fitting[0].memory.total)})"
    elif knobs:
        best = f"{_said(knobs[0].change)} helps most ({_gb(knobs[0].memory.total)})"
        fix = f"no single change is enough; {best}; try --search"
    else:
        fix = "nothing in the run file helps: use GPUs with more memory"
    raise UserError(
        f"{cluster.gpus} x {cluster.accelerator.name}: the run needs {_gb(plan.memory.total)} per GPU, "
        f"{_gb(plan.memory.total - room)} more than it has ({plan.memory.moment})",
        expected=f"at most {_gb(room)}",
        fix=fix,
    )


def _teacher(plan: Plan) -> Iterator[str]:
    distill = plan.config.distill
    if plan.config.task == "distill" and distill is not None and not distill.cache and distill.teacher_model is None:
        yield (
            f"The teacher is not counted, since {distill.teacher} is not there: say what it will be with "
            "distill.teacher_model."
        )


def _fit(plan: Plan) -> Iterator[str]:
    """What fits on half as many, as many, and twice as many GPUs."""
    counts = sorted({max(1, plan.cluster.gpus // 2), plan.cluster.gpus, 2 * plan.cluster.gpus})
    possible = [gpus for gpus in counts if gpus <= plan.config.batch.sequences]
    yield "; ".join(_fits_on(plan, plan.cluster.of(gpus)) for gpus in possible) + "."


def _fits_on(plan: Plan, cluster: Cluster) -> str:
    where = f"{cluster.gpus} x {cluster.accelerator.name}"
    for shard in SHARDINGS:
        config = changed(plan.config, shard=shard)
        largest = largest_micro_batch(config, cluster)
        if largest is not None:
            needs = "" if shard == "none" else f"needs parallel.shard {shard} or more and "
            return f"{where} {needs}fits micro-batches of up to {largest}"
    return f"{where} does not fit a single sequence with recompute {plan.config.parallel.recompute}"


def _memory(plan: Plan) -> Iterator[str]:
    room = plan.cluster.accelerator.memory_bytes
    if not plan.fits:
        knobs = [knob for knob in memory_knobs(plan.config, plan.cluster) if knob.memory.total <= room]
        if knobs:
            yield (
                f"The run needs {_gb(plan.memory.total)} per GPU of {_gb(room)}; it fits with "
                + ", or with ".join(f"{knob.change} ({_gb(knob.memory.total)})" for knob in reversed(knobs))
                + "."
            )
        return
    if plan.config.parallel.recompute != "none":
        without = memory_on(changed(plan.config, recompute="none"), plan.cluster)
        if without is not None and without.total <= room:
            yield (
                f"Recomputation is not needed: without it the run takes {_gb(without.total)} of {_gb(room)} and saves "
                "arithmetic (parallel.recompute=none)."
            )
    if plan.config.parallel.shard == "full" and plan.cluster.gpus > 1:
        kept = memory_on(changed(plan.config, shard="grads_and_optimizer"), plan.cluster)
        if kept is not None and kept.total <= room:
            yield (
                f"parallel.shard=grads_and_optimizer fits too ({_gb(kept.total)}) and gathers weights once instead of "
                "twice per micro-batch."
            )
    if plan.config.parallel.offload:
        kept = memory_on(changed(plan.config, offload=False), plan.cluster)
        if kept is not None and kept.total <= room:
            yield f"Offload is not needed: without it the run takes {_gb(kept.total)} of {_gb(room)}."


def _batch(plan: Plan) -> Iterator[str]:
    config, gpus = plan.config, plan.cluster.gpus
    micro = micro_batches_per_rank(config, gpus)
    idle = 1 - config.batch.sequences / (gpus * math.ceil(config.batch.sequences / gpus))
    if idle > 0:
        yield (
            f"{config.batch.sequences} sequences over {gpus} ranks leave {idle:.0%} of the step's work undone by some: "
            "make batch.sequences a multiple of the ranks."
        )
    largest = largest_micro_batch(config, plan.cluster)
    if largest is not None and plan.fits and largest >= 2 * config.batch.micro_sequences and micro > 1:
        yield (
            f"Micro-batches of {largest} fit (now {config.batch.micro_sequences}): fewer, larger passes keep the GPU "
            "busier."
        )


def _shape(plan: Plan) -> Iterator[str]:
    model = plan.config.model
    if model.padded_vocab_size % _MULTIPLE:
        rows = math.ceil(model.vocab_size / _MULTIPLE) * _MULTIPLE
        yield (
            f"{model.padded_vocab_size:,} rows of vocabulary are no multiple of {_MULTIPLE}: model.vocab_multiple="
            f"{_MULTIPLE} ({rows:,} rows) suits matrix units."
        )
    if model.head_width % 64:
        yield f"Heads of {model.head_width} features are slower in fused attention than those of 64 or 128."
    if not plan.config.parallel.compile and plan.cluster.accelerator.slots > 1:
        yield "parallel.compile=true fuses what lies between matrix products: usually a tenth to a quarter faster."


def _communication(plan: Plan) -> Iterator[str]:
    if plan.cluster.machines > 1 and plan.config.parallel.shard == "full":
        yield (
            f"Across {plan.cluster.machines} machines every block's weights cross the network twice per micro-batch; "
            "parallel.shard=hybrid keeps that inside each machine where it fits."
        )


def _saves(plan: Plan) -> Iterator[str]:
    resilience = plan.resilience
    interval, best = resilience.save_interval_seconds, resilience.best_interval_seconds
    if math.isinf(best):
        return
    if interval > 2 * best:
        said = "only at the end" if math.isinf(interval) else f"every {_duration(interval)}"
        yield (
            f"It saves {said}; by Young and Daly every {_duration(best)} loses least "
            f"(checkpoint.every_seconds={round(best)})."
        )
    if interval <= plan.storage.checkpoint_seconds * 1.01:
        yield (
            f"A save takes {_duration(plan.storage.checkpoint_seconds)} to be written, so they cannot come more often; "
            "a faster store (--store-gbps) would."
        )


def _tokens(plan: Plan) -> Iterator[str]:
    least, most = optimal_tokens_range(plan.parameters, plan.assumptions.fits)
    optimal = f"{least / 1e9:.3g}B to {most / 1e9:.3g}B tokens"
    if plan.tokens is None:
        yield (f"The run's length is unknown without its data: give --dataset-tokens. Compute-optimal are {optimal}.")
        return
    if plan.config.task != "pretrain":
        return  # what an adapted model needs is for its own data to say
    if plan.tokens < least / 2:
        yield (
            f"{plan.tokens / 1e9:.3g}B tokens are few for {plan.parameters / 1e6:,.0f}M parameters; compute-optimal "
            f"are {optimal}: a smaller model would reach the same loss for less."
        )
    elif plan.tokens > 4 * most:
        yield (
            f"{plan.tokens / 1e9:.3g}B tokens are beyond compute-optimal ({optimal}): right for a model that will be "
            "used much, else a larger one learns more from the same compute."
        )
    unique = plan.assumptions.dataset_tokens
    if unique and plan.tokens / unique > _REPEATS_WORTH_LITTLE:
        yield (
            f"{plan.tokens / unique:.3g} passes over {unique / 1e9:.3g}B tokens: beyond {_REPEATS_WORTH_LITTLE} "
            "repeated text is worth less and less; more text or early stopping."
        )


_TOPICS: tuple[Callable[[Plan], Iterator[str]], ...] = (
    _memory,
    _teacher,
    _fit,
    _batch,
    _communication,
    _shape,
    _saves,
    _tokens,
)


def _said(change: str) -> str:
    return f"--set {change}" if "=" in change else f"use {change}"


def _gb(size: float) -> str:
    return f"{size / 1e9:.1f} GB"


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
