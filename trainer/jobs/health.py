"""What is wrong with a run, by its /status document. Pure; called by `trainer.jobs.screen`.

A document may come from another version or from a run that has only just begun: what is missing or of another type
says nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from trainer.metrics.console import human_seconds

Document = Mapping[str, Any]
# Longer than steps and evaluations usually take; the launcher itself ends a worker after elastic.hang_seconds.
_NO_STEP_SECONDS = 120.0
# The coordinator takes a launcher for lost after two.
_SILENT_SECONDS = 2.0
# Members tell their step a few times a second, so those of the same world are not apart for long.
_STEPS_BEHIND = 2
_OVER = ("finished", "failed")


def complaints(document: Document, now: datetime) -> list[str]:
    """What somebody should look at, most urgent first; [] for a run that does well."""
    return list(_complaints(document, now))


def _complaints(document: Document, now: datetime) -> Iterator[str]:
    phase = document.get("phase")
    if phase == "failed":
        yield "it has failed"
    if phase in _OVER:
        return
    members = members_of(document)
    least = number(mapping(document, "nodes"), "min")
    if least is not None and len(members) < least:
        yield f"{len(members)} machines are here, {least:.0f} are needed"
    quiet = seconds_to(document.get("last_progress_time"), now)
    if phase == "training" and quiet is not None and -quiet > _NO_STEP_SECONDS:
        yield f"no step for {human_seconds(-quiet)}"
    loss = document.get("loss")
    if isinstance(loss, float) and not math.isfinite(loss):
        yield "the loss is not a number"
    for member in members:
        if found := trouble_of(member, document):
            yield f"{member.get('host') or 'a machine'} {found}"


def trouble_of(member: Document, document: Document) -> str:
    """What is wrong with one machine; empty if nothing is."""
    silent = number(member, "last_seen_seconds")
    if silent is not None and silent > _SILENT_SECONDS:
        return f"is silent for {human_seconds(silent)}"
    if document.get("phase") != "training" or not document.get("world_size"):
        return ""
    if "rank" in member and member["rank"] is None:
        return "waits for the next round"
    step, newest = number(member, "step"), number(document, "step")
    if step is not None and newest is not None and newest - step > _STEPS_BEHIND:
        return f"is at step {step:.0f}, {newest - step:.0f} behind"
    return ""


def members_of(document: Document) -> list[Document]:
    """The machines of a document."""
    found = document.get("members")
    return [one for one in found if isinstance(one, Mapping)] if isinstance(found, list) else []


def mapping(document: Document, key: str) -> Document:
    """A part of a document; empty where it is missing."""
    found = document.get(key)
    return found if isinstance(found, Mapping) else {}


def number(document: Document, key: str) -> float | None:
    """A finite number of a document."""
    value = document.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return value


def seconds_to(time: object, now: datetime) -> float | None:
    """Seconds from now to a time in words of ISO 8601, UTC where it does not say; None for anything else."""
    if not isinstance(time, str):
        return None
    try:
        then = datetime.fromisoformat(time)
    except ValueError:
        return None
    return ((then if then.tzinfo else then.replace(tzinfo=UTC)) - now).total_seconds()
