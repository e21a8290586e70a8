"""Evaluates each new checkpoint of a run as it is committed, until the run is finished.

Called by `gpt-run eval --watch`, in a pod of its own or beside a run on a laptop. It needs the store alone: what is
there says which checkpoints have no eval-NAME.json yet, and whether the run is over. So it may be ended and started
again at any moment, and several of them do no harm but the work done twice.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

from trainer.checkpoint.attempts import claim_numbers, read_lineage
from trainer.checkpoint.layout import (
    MARKER,
    RUN_FILE,
    Checkpoint,
    CorruptCheckpoint,
    attempt_name,
    read_checkpoints,
)
from trainer.checkpoint.store import Store
from trainer.errors import UserError
from trainer.evaluate.record import AlreadyEvaluated, CheckpointGone, Record, record_file
from trainer.metrics.lines import log_file, parse_line
from trainer.storage_errors import may_heal, one_line
from trainer.yaml_dialect import parse_yaml

_log = logging.getLogger(__name__)


def watch(
    run: Store,
    name: str,
    evaluate: Callable[[Checkpoint], Record],
    *,
    tell: Callable[[Record], None],
    say: Callable[[str], None],
    wait: Callable[[], None],
) -> None:
    """Call `evaluate` for each checkpoint that has no eval-`name`.json, newest first, until the run is finished.

    evaluate: writes the record. tell: is given it. say: takes lines for people. wait: comes back when it is time to
    look again. A checkpoint that is deleted in the middle, or not sound, is passed over with a line.
    """
    passed_over: set[str] = set()
    said = ""
    while True:
        try:
            # In this order: what was committed before the end is in the listing after it.
            finished = is_finished(run)
            pending = [each for each in _pending(run, name) if each.name not in passed_over]
            if pending:
                _evaluate_one(pending[0], evaluate, tell, say)
                passed_over.add(pending[0].name)
                continue
        except Exception as error:
            if not may_heal(error):
                raise
            _log.warning("%s: %s; looking again", run.url, one_line(error))
        else:
            if finished:
                say(f"{run.url} is finished, and all that is left of it is evaluated")
                return
            if said != (said := f"{run.url}: waiting for the next checkpoint"):
                say(said)
        wait()


def is_finished(run: Store) -> bool:
    """Whether the newest attempt has come to the end of the run: by its own last event, else by its newest commit."""
    numbers = claim_numbers(run)
    if not numbers:
        return False
    return _told_of_its_end(run, numbers[-1]) or _reached_its_length(run)


def _told_of_its_end(run: Store, attempt: int) -> bool:
    folder = f"logs/{attempt_name(attempt)}"
    files = [file for path in run.find(folder) if (file := log_file(path)) is not None and file.kind == "events"]
    for file in sorted(files, reverse=True):
        lines = [parse_line(line, with_step=False) for line in run.read_bytes(file.path).splitlines()]
        if any(line is not None and line.get("kind") == "finished" for line in lines):
            return True
    return False


def _reached_its_length(run: Store) -> bool:
    """For a run whose last lines did not reach the store."""
    try:
        settings = parse_yaml(run.read_bytes(RUN_FILE).decode(), source=run.url_of(RUN_FILE))
    except FileNotFoundError:
        return False
    listing = read_checkpoints(run)
    by_name = listing.by_name()
    order = read_lineage(run, by_name).names
    if not order or not isinstance(settings, Mapping):
        return False
    newest = by_name[order[0]].committed
    reached: dict[str, Any] = {"steps": newest.step, "epochs": newest.epoch, "tokens": newest.tokens}
    # Epochs are a quotient, whose last digit may be rounded down.
    return any(settings.get(key) is not None and value >= settings[key] - 1e-9 for key, value in reached.items())


def _pending(run: Store, name: str) -> list[Checkpoint]:
    """Checkpoints of the run's line without that evaluation, newest first: what others left is no part of the run."""
    by_name = read_checkpoints(run).by_name()
    file = record_file(name)
    return [by_name[each] for each in read_lineage(run, by_name).names if file not in by_name[each].sizes]


def _evaluate_one(
    checkpoint: Checkpoint,
    evaluate: Callable[[Checkpoint], Record],
    tell: Callable[[Record], None],
    say: Callable[[str], None],
) -> None:
    try:
        tell(evaluate(checkpoint))
    except AlreadyEvaluated:
        say(f"{checkpoint.name}: another has evaluated it meanwhile")
    except (CheckpointGone, FileNotFoundError, UserError) as error:
        if not checkpoint.store.exists(MARKER):
            say(f"{checkpoint.name}: deleted by the run's retention before it was evaluated; passed over")
        elif isinstance(error.__cause__, CorruptCheckpoint):
            say(f"{error.__cause__}; passed over")
        else:
            raise
