"""A /status document in a line, for `gpt-run job wait`. Pure; `trainer.jobs.screen` says all of it."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from trainer.jobs.health import seconds_to
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
    if (left := seconds_to(found.get("eta_time"), now)) is not None and found.get("phase") != "finished":
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
