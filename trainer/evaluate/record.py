"""eval-NAME.json: what an evaluation found, written once beside the checkpoint that it is about.

Called by `gpt-run eval --write` and by the watcher. A checkpoint may be deleted at any moment by the retention of the
run; a record that would be left alone in its folder is taken away again.
"""

from __future__ import annotations

import re
import uuid
from datetime import UTC, datetime

from trainer.checkpoint.layout import MARKER, Checkpoint, marker_bytes
from trainer.checkpoint.store import AlreadyExists
from trainer.errors import UserError
from trainer.evaluate.result import Result
from trainer.version import VERSION

FORMAT = 1
_NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,38}[a-z0-9])?")


class CheckpointGone(Exception):
    """The checkpoint was deleted while it was evaluated: nothing is to be done about it."""


class AlreadyEvaluated(UserError):
    """There is an evaluation of that name; a watcher goes on with the next checkpoint."""


class Record(Result):
    """eval-NAME.json. What `gpt-run eval --json` prints, and what it is about."""

    format: int = FORMAT
    """Of this file."""
    name: str
    """What `--write` called it."""
    checkpoint: str
    """The checkpoint's name."""
    nonce: str
    """Drawn for each writing: tells a file of one's own from another's."""
    evaluated_at: datetime
    """UTC."""
    program: str
    """Version of gpt-run."""


def record_file(name: str) -> str:
    """eval-NAME.json. UserError for a name that cannot stand in a file's name everywhere."""
    if not _NAME.fullmatch(name):
        raise UserError(
            f"--write {name}",
            expected="at most 40 lower-case letters, digits and `-`",
            fix="write for example --write validation",
        )
    return f"eval-{name}.json"


def require_unwritten(checkpoint: Checkpoint, name: str) -> None:
    """AlreadyEvaluated where the checkpoint has an evaluation of that name, before anything is computed."""
    if record_file(name) in checkpoint.sizes:
        raise _exists(checkpoint, name)


def write_record(checkpoint: Checkpoint, name: str, result: Result) -> Record:
    """Write eval-NAME.json. AlreadyEvaluated if there is one; CheckpointGone if retention took the checkpoint."""
    file = record_file(name)
    record = Record(
        **result.model_dump(),
        name=name,
        checkpoint=checkpoint.name,
        nonce=uuid.uuid4().hex,
        evaluated_at=datetime.now(UTC),
        program=VERSION,
    )
    if not checkpoint.store.exists(MARKER):
        raise CheckpointGone(checkpoint.url)
    try:
        checkpoint.store.write_once(file, marker_bytes(record))
    except AlreadyExists as error:
        raise _exists(checkpoint, name) from error
    if not checkpoint.store.exists(MARKER):
        # Retention lists the folder after it has deleted the marker, so that one of the two sees the file.
        checkpoint.store.remove(file)
        checkpoint.store.remove_folder("")
        raise CheckpointGone(checkpoint.url)
    return record


def _exists(checkpoint: Checkpoint, name: str) -> AlreadyEvaluated:
    return AlreadyEvaluated(
        f"{checkpoint.store.url_of(record_file(name))} exists already",
        expected="a name that this checkpoint has no evaluation of: they are written once",
        fix="choose another --write NAME, or read that one: gpt-run checkpoints show",
    )
