"""The /status document of a run that trains."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
MEMBER: dict[str, Any] = {
    "id": "x",
    "host": "gpt2-worker-0",
    "slots": 8,
    "rank": 0,
    "step": 120,
    "last_seen_seconds": 0.2,
}
DOCUMENT: dict[str, Any] = {
    "format": 1,
    "run": "gpt2",
    "attempt": "a0004",
    "round": 3,
    "phase": "training",
    "step": 120,
    "steps_total": 1000,
    "tokens": 1_234_567,
    "loss": 3.21414,
    "validation_loss": 3.3,
    "tokens_per_second": 12_345.6,
    "mfu_ratio": 0.41,
    "world_size": 16,
    "nodes": {"min": 1, "max": 4},
    "members": [MEMBER],
    "last_progress_time": "2026-01-01T11:59:48+00:00",
    "last_checkpoint": {"name": "step-00000100-a0004", "time": "2026-01-01T11:57:00+00:00", "url": "s3://b"},
    "goodput_seconds": {"other": 100.0, "training": 900.0, "init": 0.0},
    "restarts": {"Preempted": 2, "Scaled": 1},
    "eta_time": "2026-01-01T13:02:00+00:00",
    "cost": {"spent": 3.1, "remaining": 12.0, "lost": 0.25, "per_billion_tokens": 41.0, "currency": "EUR"},
    "last_error": {"exit_code": 1, "reason": "WorkerFailed", "message": "error: rank 1\n died\x1b[31m"},
}
