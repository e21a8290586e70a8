"""Figures of a whole run: speed and its scaling, GPUs, machines, where the time went, what it cost, saves. Pure.

Called by `trainer.metrics.report.build`. Speeds are medians over lines: the first steps of an attempt, evaluations and
disturbances do not move them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean, median
from typing import Any

from trainer.metrics.report.folds import GpuFold, PerformanceFold, TrainingLine, number
from trainer.metrics.report.model import (
    AttemptRow,
    CheckpointRow,
    Checkpoints,
    Cost,
    Goodput,
    Gpus,
    Hosts,
    Performance,
    Scaling,
)
from trainer.metrics.report.reading import RunFiles


def performance_of(lines: Sequence[TrainingLine], fold: PerformanceFold) -> Performance:
    """Speed and memory of the run, and how its steps' time divides."""
    settled = _settled(lines)
    slowest = fold.slowest.most_common(1)
    return Performance(
        steps_per_second=_rate(settled),
        tokens_per_second=_median(line.tokens_per_second for line in settled),
        mfu_ratio=_median(line.mfu_ratio for line in settled),
        memory_bytes=max((line.memory_bytes for line in lines if line.memory_bytes is not None), default=None),
        shares=fold.shares,
        slowest_rank=slowest[0][0] if slowest else None,
        slowest_rank_share=slowest[0][1] / fold.slowest.total() if slowest else None,
        rank_spread=median(fold.spreads) if fold.spreads else None,
        scaling=_scaling(settled),
    )


def gpus_of(fold: GpuFold) -> Gpus | None:
    """What gpu.jsonl says; None where there is none."""
    if not fold.gpus:
        return None
    return Gpus(
        count=len(fold.gpus),
        names=tuple(fold.names),
        utilization_ratio=fold.mean("utilization_ratio"),
        memory_used_bytes=fold.memory_used_bytes,
        memory_total_bytes=fold.memory_total_bytes,
        power_watts=fold.mean("power_watts"),
        temperature_celsius=fold.temperature_celsius,
    )


def hosts_of(fold: PerformanceFold) -> Hosts | None:
    """What performance.jsonl says of machines; None where it says nothing."""
    if not fold.hosts:
        return None
    return Hosts(
        count=len(fold.hosts),
        cpu_ratio=fmean(fold.cpu_ratios) if fold.cpu_ratios else None,
        memory_used_ratio=fold.memory_ratio,
        disk_free_bytes=fold.disk_free_bytes,
    )


def goodput_of(fold: PerformanceFold) -> Goodput | None:
    """Where the time went; None where no line says it."""
    total = sum(fold.goodput.values())
    if total <= 0:
        return None
    return Goodput(
        ratio=fold.goodput.get("training", 0.0) / total,
        seconds=fold.goodput,
        gpu_seconds=fold.gpu_seconds,
        lost_gpu_seconds=fold.lost_gpu_seconds,
    )


def cost_of(
    config: Mapping[str, Any], goodput: Goodput | None, rows: Iterable[AttemptRow], tokens: int | None
) -> Cost | None:
    """What the run cost; None where run.yaml has no price."""
    settings = config.get("cost")
    price = number(settings, "price_per_gpu_hour") if isinstance(settings, Mapping) else None
    if not isinstance(settings, Mapping) or price is None:
        return None
    known = goodput is not None and bool(goodput.gpu_seconds)
    if goodput is not None and known:
        gpu_seconds = sum(goodput.gpu_seconds.values())
    else:
        gpu_seconds = sum((row.seconds or 0.0) * (row.world_size or 0) for row in rows)
    spent = gpu_seconds / 3600 * price
    return Cost(
        currency=str(settings.get("currency") or "USD"),
        price_per_gpu_hour=price,
        spent=spent,
        lost=goodput.lost_gpu_seconds / 3600 * price if goodput is not None and known else None,
        per_billion_tokens=spent / tokens * 1e9 if tokens else None,
        estimated=not known,
    )


def checkpoints_of(files: RunFiles) -> Checkpoints:
    """The saves that are still there, and what is known of all."""
    rows = tuple(
        CheckpointRow(
            name=one.name,
            step=one.step,
            attempt=one.attempt,
            committed_at=one.committed_at,
            bytes=one.bytes,
            duration_seconds=one.duration_seconds,
            loss=number({"loss": one.loss}, "loss"),
            validation_loss=one.validation_loss,
        )
        for one in files.checkpoints
    )
    newest = max(rows, key=lambda row: (row.attempt, row.step), default=None)
    kinds = [event.kind for event in files.events]
    stalls = files.performance.stall_seconds
    return Checkpoints(
        committed=len(rows),
        saves=kinds.count("checkpoint") if kinds else None,
        failures=kinds.count("checkpoint_failed"),
        bytes=sum(row.bytes for row in rows),
        duration_seconds=_median(row.duration_seconds for row in rows),
        longest_seconds=max((row.duration_seconds for row in rows), default=None),
        stall_seconds=sum(stalls.values()) if stalls else None,
        newest=newest.name if newest else None,
        newest_at=newest.committed_at if newest else None,
        rows=rows,
    )


def _settled(lines: Sequence[TrainingLine]) -> list[TrainingLine]:
    """Lines with a speed, without the first of each attempt that has more: compilation and warm-up are in it."""
    with_speed = [line for line in lines if line.tokens_per_second is not None]
    by_attempt: dict[int, list[TrainingLine]] = defaultdict(list)
    for line in with_speed:
        by_attempt[line.attempt].append(line)
    return [line for own in by_attempt.values() for line in (own[1:] or own)]


def _scaling(lines: Sequence[TrainingLine]) -> tuple[Scaling, ...]:
    by_size: dict[int, list[TrainingLine]] = defaultdict(list)
    for line in lines:
        if line.world_size:
            by_size[line.world_size].append(line)
    rows: list[Scaling] = []
    base: float | None = None
    for size, own in sorted(by_size.items()):
        speed = _median(line.tokens_per_second for line in own) or 0.0
        base = base or speed / size
        rows.append(
            Scaling(
                world_size=size,
                lines=len(own),
                steps_per_second=_rate(own),
                tokens_per_second=speed,
                tokens_per_second_per_worker=speed / size,
                efficiency=speed / size / base if base else 0.0,
                mfu_ratio=_median(line.mfu_ratio for line in own),
                memory_bytes=max((line.memory_bytes for line in own if line.memory_bytes is not None), default=None),
            )
        )
    return tuple(rows)


def _rate(lines: Sequence[TrainingLine]) -> float | None:
    """Steps per second."""
    seconds = _median(line.step_seconds for line in lines)
    return 1 / seconds if seconds else None


def _median(values: Iterable[float | None]) -> float | None:
    found = [value for value in values if value is not None]
    return median(found) if found else None
