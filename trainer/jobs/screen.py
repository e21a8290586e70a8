"""A /status document as one screen: is the run healthy, how fast, how good, what did faults cost, when does it end.

Called by `gpt-run status`. Pure; fields that a document lacks are left out.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any

from trainer.jobs.health import (
    Document,
    complaints,
    mapping,
    members_of,
    number,
    seconds_to,
    trouble_of,
)
from trainer.metrics.console import human_number, human_seconds
from trainer.pages.wording import percent, visible

# More machines than these fill a screen; those with trouble come first.
_MOST_MEMBERS = 8
_BAR_CHARACTERS = 30
_NAME_CHARACTERS = 12


def status_screen(document: Document, now: datetime) -> list[str]:
    """Lines of text: everything that the document says."""
    lines = []
    for name, text in _rows(document, now):
        if text:
            lines.append(f"{name:<{_NAME_CHARACTERS}} {' '.join(visible(text).split())}")
    return lines


def _rows(document: Document, now: datetime) -> Iterator[tuple[str, str]]:
    found = complaints(document, now)
    yield "run", str(document.get("run") or "")
    yield "phase", _phase(document)
    yield "health", "; ".join(found) if found else _all_well(document)
    yield "step", _step(document, now)
    yield "loss", _losses(document)
    yield "speed", _speed(document)
    yield "ends", _ends(document, now)
    yield "cost", _cost(mapping(document, "cost"))
    yield "checkpoint", _checkpoint(mapping(document, "last_checkpoint"), now)
    yield from zip(("goodput", *[""] * 20), _goodput(mapping(document, "goodput_seconds")), strict=False)
    yield "restarts", _restarts(mapping(document, "restarts"))
    yield "workers", _workers(document)
    yield from (("", line) for line in _members(document))
    yield "last error", _error(mapping(document, "last_error"))


def _phase(document: Document) -> str:
    parts = [f"attempt {document['attempt']}" if document.get("attempt") else ""]
    parts.append(f"round {document['round']}" if document.get("round") else "")
    about = ", ".join(filter(None, parts))
    return f"{document.get('phase')}" + (f" ({about})" if about else "")


def _all_well(document: Document) -> str:
    return "ok" if document.get("phase") not in (None, "waiting") else ""


def _step(document: Document, now: datetime) -> str:
    step, total = number(document, "step"), number(document, "steps_total")
    tokens = number(document, "tokens")
    parts = []
    if total is not None:
        done = min(max((step or 0) / max(total, 1), 0.0), 1.0)
        bar = "█" * round(_BAR_CHARACTERS * done)
        parts.append(f"{step or 0:.0f} of {total:.0f} ({(step or 0) / max(total, 1):.1%}) {bar:░<{_BAR_CHARACTERS}}")
    elif step is not None:
        parts.append(f"{step:.0f}")
    if tokens is not None:
        parts.append(f"{human_number(tokens)} tokens")
    if ago := _ago(document.get("last_progress_time"), now):
        parts.append(f"the last {ago}")
    return ", ".join(parts)


def _losses(document: Document) -> str:
    loss, validation = number(document, "loss"), number(document, "validation_loss")
    parts = [
        f"{loss:.4f}" if loss is not None else "",
        f"validation {validation:.4f}" if validation is not None else "",
    ]
    return ", ".join(filter(None, parts))


def _speed(document: Document) -> str:
    speed, mfu = number(document, "tokens_per_second"), number(document, "mfu_ratio")
    parts = [
        f"{human_number(speed)} tokens/s" if speed is not None else "",
        f"MFU {mfu:.1%}" if mfu is not None else "",
    ]
    return ", ".join(filter(None, parts))


def _ends(document: Document, now: datetime) -> str:
    left = seconds_to(document.get("eta_time"), now)
    if left is None or document.get("phase") in ("finished", "failed"):
        return ""
    return f"in {human_seconds(max(0.0, left))} ({document['eta_time']})"


def _cost(cost: Document) -> str:
    spent = number(cost, "spent")
    if spent is None:
        return ""
    parts = [f"{spent:,.2f} {cost.get('currency') or ''}".rstrip()]
    if (lost := number(cost, "lost")) is not None:
        parts.append(f"{lost:,.2f} of it lost to faults")
    if (remaining := number(cost, "remaining")) is not None:
        parts.append(f"{remaining:,.2f} to come, {spent + remaining:,.2f} in all")
    if (per_billion := number(cost, "per_billion_tokens")) is not None:
        parts.append(f"{per_billion:,.2f} per billion tokens")
    return ", ".join(parts)


def _checkpoint(found: Document, now: datetime) -> str:
    place = found.get("url") or found.get("name")
    if not place:
        return ""
    ago = _ago(found.get("time"), now)
    return f"{place}, {ago}, which is what a fault would take back" if ago else str(place)


def _goodput(seconds: Document) -> Iterator[str]:
    """The share of training, then all buckets, the largest first, four a line."""
    spent = {bucket: value for bucket in seconds if (value := number(seconds, bucket)) and value > 0}
    total = sum(spent.values())
    if not total:
        return
    yield f"{percent(spent.get('training', 0.0) / total)} of {human_seconds(total)} led to the weights of now"
    largest_first = sorted(spent.items(), key=lambda item: -item[1])
    words = [f"{bucket} {percent(value / total)} ({human_seconds(value)})" for bucket, value in largest_first]
    for start in range(0, len(words), 3):
        yield ", ".join(words[start : start + 3])


def _restarts(counts: Document) -> str:
    found = {reason: int(count) for reason in counts if (count := number(counts, reason))}
    if not found:
        return ""
    return f"{sum(found.values())}: " + ", ".join(f"{count} {reason}" for reason, count in found.items())


def _workers(document: Document) -> str:
    bounds = mapping(document, "nodes")
    least, most = bounds.get("min"), bounds.get("max")
    allowed = f", {least} to {most} may take part" if least is not None and most is not None else ""
    return f"{document.get('world_size') or 0} on {len(members_of(document))} machines{allowed}"


def _members(document: Document) -> Iterator[str]:
    """Machines with trouble first; the rest as far as they fit."""
    members = sorted(members_of(document), key=lambda member: not trouble_of(member, document))
    for member in members[:_MOST_MEMBERS]:
        yield _member(member, document)
    if len(members) > _MOST_MEMBERS:
        rest = members[_MOST_MEMBERS:]
        bad = sum(bool(trouble_of(member, document)) for member in rest)
        yield f"and {len(rest)} more" + (f", {bad} of them slow or missing" if bad else "")


def _member(member: Document, document: Document) -> str:
    parts: list[Any] = [f"{member.get('host')}: {member.get('slots')} workers"]
    if number(member, "step") is not None:
        parts.append(f"step {member['step']}")
    if number(member, "rank") is not None:
        parts.append(f"rank {member['rank']} first")
    if (seen := number(member, "last_seen_seconds")) is not None:
        parts.append(f"seen {human_seconds(seen)} ago")
    trouble = trouble_of(member, document)
    return ", ".join(parts) + (f"  <- {trouble}" if trouble else "")


def _error(error: Document) -> str:
    if not error:
        return ""
    return f"exit {error.get('exit_code')}, {error.get('reason') or 'no reason'}: {error.get('message') or ''}".rstrip()


def _ago(time: object, now: datetime) -> str:
    left = seconds_to(time, now)
    return "" if left is None else f"{human_seconds(max(0.0, -left))} ago"
