"""What the attempts before left of a run's account of time; called by rank 0 when it has claimed the next one."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator

from trainer.checkpoint.attempts import claim_numbers, read_claim
from trainer.checkpoint.layout import attempt_name
from trainer.checkpoint.store import Store
from trainer.metrics.goodput import Ledger
from trainer.metrics.lines import log_file

_ATTEMPT = re.compile(r"a(\d{4,})")
# A local file may be long, and the newest line is its last.
_TAIL_BYTES = 64 * 2**10
_log = logging.getLogger(__name__)


def last_ledger(run: Store, attempt: int) -> Ledger | None:
    """The newest account that an attempt before number `attempt` wrote down; None for a run's first attempt.

    Attempts that ended before their first line reached the store count as time without training.
    """
    matches = (_ATTEMPT.fullmatch(name) for name in run.list_names("logs"))
    before = sorted((int(match[1]) for match in matches if match and int(match[1]) < attempt), reverse=True)
    for number in before:
        for line in _newest_lines(run, f"logs/{attempt_name(number)}"):
            try:
                return Ledger.from_json(json.loads(line))
            except (ValueError, KeyError, TypeError):
                _log.warning("%s: a damaged line of performance.jsonl is passed over", run.url)
    earlier = [number for number in claim_numbers(run) if number < attempt]
    return Ledger(time=read_claim(run, earlier[0]).started_at) if earlier else None


def _newest_lines(run: Store, folder: str) -> Iterator[bytes]:
    """Lines of performance.jsonl, the newest first; one that was cut off in the middle may be among them."""
    sizes = run.find(folder)
    segments = [file for path in sizes if (file := log_file(path)) is not None and file.kind == "performance"]
    for segment in sorted(segments, reverse=True):
        start = max(sizes[segment.path] - _TAIL_BYTES, 0)
        lines = run.read_bytes(segment.path, start or None).splitlines()
        yield from reversed(lines[1:] if start else lines)
