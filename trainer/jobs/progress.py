"""A /status document in words: one line for `gpt-run job wait`, a table for `gpt-run status`. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from trainer.jobs.state import Phase
from trainer.metrics.console import human_number, human_seconds

# The training's own words say more than the job's, as long as the job runs.
_JOB_SAYS_MORE = (Phase.QUEUED, Phase.SUSPENDED, Phase.SUCCEEDED, Phase.FAILED)


def phase_word(phase: Phase, document: dict[str, Any] | None) -> str:
    """What the run does: the training's phase while it runs, else the job's."""
    if phase in _JOB_SAYS_MORE or not document or not document.get("phase"):
        return phase.lower()
    return str(document["phase"])


def figures(document: dict[str, Any] | None, now: datetime) -> str:
    """`loss 3.2141  12.3k tokens/s  ETA 1h02m`, as far as known."""
    found = document or {}
    parts = []
    if found.get("loss") is not None:
        parts.append(f"loss {found['loss']:.4f}")
    if found.get("tokens_per_second") is not None:
        parts.append(f"{human_number(found['tokens_per_second'])} tokens/s")
    if (left := _seconds_to(found.get("eta_time"), now)) is not None and found.get("phase") != "finished":
        parts.append(f"ETA {human_seconds(max(0.0, left))}")
    return "  ".join(parts)


def steps_of(document: dict[str, Any] | None) -> tuple[int, int | None]:
    """Steps done, and steps in all (None: not known yet)."""
    found = document or {}
    total = found.get("steps_total")
    return int(found.get("step") or 0), None if total is None else int(total)


def progress_line(phase: Phase, document: dict[str, Any] | None, now: datetime) -> str:
    """`training  step 120/1000  loss 3.2141  12.3k tokens/s  ETA 1h02m`."""
    step, total = steps_of(document)
    parts = [phase_word(phase, document)]
    if total is not None:
        parts.append(f"step {step:>{len(str(total))}}/{total}")
    return "  ".join(filter(None, [*parts, figures(document, now)]))


def status_table(document: dict[str, Any], now: datetime) -> list[str]:
    """Every field of a /status document that says something, a line each."""
    return [f"{name:<12} {text}" for name, text in _rows(document, now) if text]


def _rows(document: dict[str, Any], now: datetime) -> Iterator[tuple[str, str]]:
    step, total = steps_of(document)
    yield "run", str(document.get("run") or "")
    yield "phase", _phase(document)
    if total is not None:
        yield "step", f"{step} of {total} ({step / max(1, total):.1%})"
    yield "tokens", _number(document.get("tokens"))
    yield "loss", _losses(document)
    yield "speed", _speed(document)
    yield "ends", _ends(document, now)
    yield "workers", _workers(document)
    for member in document.get("members") or []:
        yield "", _member(member)
    yield "progress", _ago(document.get("last_progress_time"), now)
    yield "checkpoint", _checkpoint(document.get("last_checkpoint"), now)
    yield "time spent", _shares(document.get("goodput_seconds"))
    yield "restarts", ", ".join(f"{count} {reason}" for reason, count in (document.get("restarts") or {}).items())
    yield "cost", _cost(document.get("cost"))
    yield "last error", _error(document.get("last_error"))


def _phase(document: dict[str, Any]) -> str:
    parts = [f"attempt {document['attempt']}" if document.get("attempt") else ""]
    parts.append(f"round {document['round']}" if document.get("round") else "")
    about = ", ".join(filter(None, parts))
    return f"{document.get('phase')}" + (f" ({about})" if about else "")


def _losses(document: dict[str, Any]) -> str:
    parts = []
    if document.get("loss") is not None:
        parts.append(f"{document['loss']:.4f}")
    if document.get("validation_loss") is not None:
        parts.append(f"validation {document['validation_loss']:.4f}")
    return ", ".join(parts)


def _speed(document: dict[str, Any]) -> str:
    parts = []
    if document.get("tokens_per_second") is not None:
        parts.append(f"{human_number(document['tokens_per_second'])} tokens/s")
    if document.get("mfu_ratio") is not None:
        parts.append(f"MFU {document['mfu_ratio']:.1%}")
    return ", ".join(parts)


def _ends(document: dict[str, Any], now: datetime) -> str:
    left = _seconds_to(document.get("eta_time"), now)
    if left is None or document.get("phase") in ("finished", "failed"):
        return ""
    return f"in {human_seconds(max(0.0, left))} ({document['eta_time']})"


def _workers(document: dict[str, Any]) -> str:
    bounds = document.get("nodes") or {}
    allowed = f", {bounds['min']} to {bounds['max']} may take part" if bounds else ""
    return f"{document.get('world_size') or 0} on {len(document.get('members') or [])} machines{allowed}"


def _member(member: dict[str, Any]) -> str:
    parts = [f"{member.get('host')}: {member.get('slots')} workers, step {member.get('step')}"]
    if member.get("rank") is not None:
        parts.append(f"rank {member['rank']} first")
    if member.get("last_seen_seconds") is not None:
        parts.append(f"seen {human_seconds(member['last_seen_seconds'])} ago")
    return ", ".join(parts)


def _checkpoint(found: dict[str, Any] | None, now: datetime) -> str:
    return f"{found.get('url') or found.get('name')}, {_ago(found.get('time'), now)}" if found else ""


def _shares(seconds: dict[str, float] | None) -> str:
    total = sum((seconds or {}).values())
    if not seconds or total <= 0:
        return ""
    largest_first = sorted(seconds.items(), key=lambda item: -item[1])
    return ", ".join(f"{bucket} {spent / total:.1%}" for bucket, spent in largest_first if spent > 0)


def _cost(cost: dict[str, Any] | None) -> str:
    if not cost:
        return ""
    remaining = cost.get("remaining")
    to_come = f", {remaining:.2f} to come" if remaining is not None else ""
    return f"{cost.get('spent') or 0:.2f} {cost.get('currency') or ''}{to_come}"


def _error(error: dict[str, Any] | None) -> str:
    if not error:
        return ""
    return f"exit {error.get('exit_code')}, {error.get('reason') or 'no reason'}: {error.get('message') or ''}".rstrip()


def _number(value: float | None) -> str:
    return "" if value is None else human_number(value)


def _ago(time: str | None, now: datetime) -> str:
    left = _seconds_to(time, now)
    return "" if left is None else f"{human_seconds(max(0.0, -left))} ago"


def _seconds_to(time: str | None, now: datetime) -> float | None:
    if not time:
        return None
    then = datetime.fromisoformat(time)
    return ((then if then.tzinfo else then.replace(tzinfo=UTC)) - now).total_seconds()
