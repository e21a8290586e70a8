"""A report's figures in words, shared by the text and the page. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from trainer.metrics.console import human_number, human_seconds
from trainer.metrics.goodput import Bucket
from trainer.metrics.report.model import AttemptRow, End, Gpus, Report
from trainer.pages.wording import percent, size

BUCKETS = (
    Bucket.TRAINING,
    Bucket.EVALUATION,
    Bucket.CHECKPOINT_SAVE,
    Bucket.DATA_LOADING,
    Bucket.PROGRAM_START,
    Bucket.TRAINING_PREP,
    Bucket.CHECKPOINT_RESTORE,
    Bucket.INIT,
    Bucket.WASTED_PROGRESS,
    Bucket.INFRA_RECOVERY,
    Bucket.OTHER,
)
"""As they are shown: useful things first."""


def facts(report: Report) -> list[tuple[str, str]]:
    """(name, what is to be said) of all that is known."""
    return [(name, text) for name, text in _facts(report) if text]


def _facts(report: Report) -> Iterator[tuple[str, str]]:
    yield "state", state(report)
    yield "trained", _trained(report)
    yield "loss", _losses(report)
    yield "speed", _speed(report)
    yield "memory", _memory(report)
    yield "GPUs", _gpus(report.gpus)
    yield "machines", _machines(report)
    yield "took", _took(report)
    yield "faults", _faults(report)
    yield "saves", _saves(report)
    yield "cost", cost(report)


def state(report: Report) -> str:
    """Whether the run is over, and when it was last seen."""
    seen = f"last sign {report.last_sign_at:%Y-%m-%d %H:%M:%S} UTC" if report.last_sign_at else ""
    if report.end is None:
        return ", ".join(filter(None, ["it runs, or nothing says how it ended", seen]))
    message = f" ({report.end.message})" if report.end.message else ""
    return ", ".join(filter(None, [f"{report.end.reason}{message}", seen]))


def cost(report: Report) -> str:
    """Spent, lost, and per token."""
    found = report.cost
    if found is None:
        return ""
    parts = [f"{money(found.spent)} {found.currency}"]
    if found.lost is not None:
        share = f" ({percent(found.lost / found.spent)})" if found.spent else ""
        parts.append(f"{money(found.lost)} of it lost to faults{share}")
    if found.per_billion_tokens is not None:
        parts.append(f"{money(found.per_billion_tokens)} per billion tokens")
    if found.estimated:
        parts.append("estimated: workers' hours by claims and lines")
    return ", ".join(parts)


def money(amount: float) -> str:
    """12,345.67; below 0.1 two digits that say something."""
    return f"{amount:,.2f}" if abs(amount) >= 0.1 or not amount else f"{amount:.2g}"


def duration(seconds: float | None) -> str:
    """`3.2s`, `1h02m`, or `-` for one that is not known."""
    if seconds is None:
        return "-"
    return f"{seconds:.1f}s" if seconds < 9.95 else human_seconds(seconds)


def number(value: float | None, pattern: str = "{:,.2f}") -> str:
    """A figure, or `-` for one that is not known."""
    return "-" if value is None else pattern.format(value)


def how_ended(end: End | None) -> str:
    """The reason, and whether it counted."""
    return "-" if end is None else f"{end.reason}{' (counted)' if end.counted else ''}"


def span(row: AttemptRow) -> str:
    """`12 to 40`."""
    return "-" if row.first_step is None else f"{row.first_step:,} to {row.last_step:,}"


def _trained(report: Report) -> str:
    if report.step is None:
        return ""
    planned = report.steps_planned
    parts = [f"step {report.step:,}" + (f" of {planned:,} ({percent(report.step / planned)})" if planned else "")]
    if report.tokens is not None:
        parts.append(f"{human_number(report.tokens)} tokens")
    if report.epoch is not None:
        parts.append(f"{report.epoch:.2f} epochs")
    parts += [part for part in (report.model, report.precision) if part]
    return ", ".join(parts)


def _losses(report: Report) -> str:
    parts = []
    if report.loss is not None:
        parts.append(f"{report.loss:.4f}")
    if report.validation_loss is not None:
        parts.append(f"validation {report.validation_loss:.4f}, best {report.best_validation_loss:.4f}")
    if report.nonfinite_lines:
        parts.append(f"not a number in {report.nonfinite_lines:,} lines")
    return ", ".join(parts)


def _speed(report: Report) -> str:
    found = report.performance
    if found.tokens_per_second is None:
        return ""
    parts = [f"{human_number(found.tokens_per_second)} tokens/s"]
    if found.steps_per_second is not None:
        parts.append(f"{found.steps_per_second:.3g} steps/s")
    if found.mfu_ratio is not None:
        parts.append(f"MFU {percent(found.mfu_ratio)}")
    return ", ".join([*parts, "medians"])


def _memory(report: Report) -> str:
    peak = report.performance.memory_bytes
    return "" if peak is None else f"{size(peak)} at most on rank 0"


def _gpus(gpus: Gpus | None) -> str:
    if gpus is None:
        return ""
    parts = [f"{gpus.count} of {', '.join(gpus.names) or 'unknown kind'}"]
    if gpus.utilization_ratio is not None:
        parts.append(f"utilization {percent(gpus.utilization_ratio)}")
    if gpus.memory_used_bytes is not None:
        total = f" of {size(gpus.memory_total_bytes)}" if gpus.memory_total_bytes else ""
        parts.append(f"memory up to {size(gpus.memory_used_bytes)}{total}")
    if gpus.power_watts is not None:
        parts.append(f"{gpus.power_watts:.0f} W")
    if gpus.temperature_celsius is not None:
        parts.append(f"up to {gpus.temperature_celsius:.0f} °C")
    return ", ".join(parts)


def _machines(report: Report) -> str:
    hosts = report.hosts
    if hosts is None:
        return ""
    parts = [f"{hosts.count}"]
    if hosts.cpu_ratio is not None:
        parts.append(f"CPU {percent(hosts.cpu_ratio)}")
    if hosts.memory_used_ratio is not None:
        parts.append(f"memory up to {percent(hosts.memory_used_ratio)}")
    if hosts.disk_free_bytes is not None:
        parts.append(f"{size(hosts.disk_free_bytes)} of disk free at least")
    return ", ".join(parts)


def _took(report: Report) -> str:
    if report.wall_seconds is None:
        return ""
    parts = [f"{duration(report.wall_seconds)} from first start to last sign"]
    if report.goodput is not None:
        parts.append(f"goodput {percent(report.goodput.ratio)}")
    return ", ".join(parts)


def _faults(report: Report) -> str:
    count = len(report.attempts)
    reasons = ", ".join(f"{one.count} {one.reason}" for one in report.restarts)
    parts = [f"{count} attempt{'' if count == 1 else 's'}" + (f": {reasons}" if reasons else "")]
    idle = sum(row.idle_seconds or 0.0 for row in report.attempts)
    redone = sum(row.steps_redone for row in report.attempts)
    if count > 1:
        parts.append(f"{redone:,} steps done again, {duration(idle)} between attempts")
    return "; ".join(parts)


def _saves(report: Report) -> str:
    found = report.checkpoints
    if not found.committed:
        return ""
    parts = [f"{found.committed} kept" + (f" of {found.saves}" if found.saves is not None else "")]
    parts.append(size(found.bytes))
    if found.duration_seconds is not None:
        parts.append(f"{found.duration_seconds:.3g} s each, longest {number(found.longest_seconds, '{:.3g}')} s")
    if found.stall_seconds is not None:
        parts.append(f"steps waited {duration(found.stall_seconds)}")
    if found.failures:
        parts.append(f"{found.failures} failed")
    parts.append(f"newest {found.newest}")
    return ", ".join(parts)
