"""What `gpt-run checkpoints` does: list, show, verify, pull, pin and prune, each as a function with a JSON-able result.

The commands in trainer.cli.checkpoints only parse arguments and print; tests and other programs call these.
"""

from __future__ import annotations

import json
import logging
import shutil
import tempfile
import uuid
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from trainer.checkpoint.attempts import read_lineage
from trainer.checkpoint.cleanup import apply_retention, plan_removal
from trainer.checkpoint.config import KeepConfig
from trainer.checkpoint.layout import (
    MARKER,
    PINNED,
    RUN_FILE,
    Checkpoint,
    CorruptCheckpoint,
    RunListing,
    json_bytes,
    read_checkpoints,
)
from trainer.checkpoint.load import check_sizes
from trainer.checkpoint.reader import VerifiedFiles
from trainer.checkpoint.retention import Facts, tiers
from trainer.checkpoint.store import AlreadyExists, Store, open_store
from trainer.durable import replacing, write_atomically
from trainer.errors import UserError
from trainer.paths import require_local

logger = logging.getLogger(__name__)


class CheckpointRow(BaseModel):
    """One line of `checkpoints list --json`."""

    name: str
    step: int
    attempt: int
    tiers: list[str]
    loss: float
    validation_loss: float | None
    bytes: int
    committed_at: datetime
    url: str


class Verified(BaseModel):
    """Result of `checkpoints verify`."""

    name: str
    url: str
    sound: bool
    files: int
    bytes: int
    problems: list[str]


class Pruned(BaseModel):
    """Result of `checkpoints prune`."""

    deleted: list[str]
    torn: list[str]
    bytes: int
    dry_run: bool


def open_run_url(url: str) -> Store:
    """The run at `<store>/<run>`. UserError if nothing of a run is there."""
    run = open_store(url)
    names = run.list_names()
    if "checkpoints" not in names and "attempts" not in names:
        raise UserError(
            f"{run.url} is not a run",
            expected="<store>/<run>, a folder with attempts/ and checkpoints/",
            fix=f"name one of: {', '.join(names[:8])}" if names else "nothing is there: correct the URL",
        )
    return run


def keep_of(run: Store) -> KeepConfig:
    """`checkpoint.keep` of the run's newest run.yaml; the defaults where it has none."""
    try:
        document: Any = YAML(typ="safe").load(run.read_bytes(RUN_FILE).decode())
        return KeepConfig.model_validate(document["checkpoint"]["keep"])
    except (FileNotFoundError, YAMLError, KeyError, TypeError, ValidationError):
        return KeepConfig()


def list_checkpoints(run: Store) -> list[CheckpointRow]:
    """All committed checkpoints of a run, oldest step first, with the tiers that hold them."""
    listing = read_checkpoints(run)
    for reason in listing.broken.values():
        logger.warning("%s: left out", reason)
    held = _tiers(run, listing)
    return [_row(checkpoint, held[checkpoint.name]) for checkpoint in listing.committed]


def show_checkpoint(checkpoint: Checkpoint) -> dict[str, Any]:
    """The marker's fields, and beside them the tiers, URL and evaluations that were added later."""
    run = checkpoint.store.parent().parent()
    listing = read_checkpoints(run)
    shown: dict[str, Any] = checkpoint.committed.model_dump(mode="json")
    shown["name"] = checkpoint.name
    shown["url"] = checkpoint.url
    shown["tiers"] = list(_tiers(run, listing).get(checkpoint.name, ()))
    shown["evaluations"] = {
        name.removeprefix("eval-").removesuffix(".json"): _evaluation(checkpoint, name)
        for name in sorted(checkpoint.sizes)
        if name.startswith("eval-") and name.endswith(".json")
    }
    return shown


def _evaluation(checkpoint: Checkpoint, file: str) -> Any:
    try:
        return json.loads(checkpoint.store.read_bytes(file))
    except ValueError as error:
        raise UserError(
            f"{checkpoint.store.url_of(file)} is not JSON ({error})",
            expected="the JSON of an evaluation",
            fix="delete the file and evaluate again",
        ) from error


def verify_checkpoint(
    checkpoint: Checkpoint, *, streams: int = 4, progress: Callable[[int], None] | None = None
) -> Verified:
    """Read every file back and compare size and hash with the marker. `progress` is called with bytes done."""
    problems: list[str] = []
    committed = checkpoint.committed
    with tempfile.TemporaryDirectory(prefix="gpt-run-verify-") as folder, ThreadPoolExecutor(streams) as pool:
        files = VerifiedFiles(checkpoint, Path(folder), keep=False)

        def check(name: str) -> str | None:
            try:
                files.check(name)
            except CorruptCheckpoint as error:
                return f"{error.file} {error.reason}"
            finally:
                if progress is not None:
                    progress(committed.files[name].bytes)
            return None

        problems = [problem for problem in pool.map(check, sorted(committed.files)) if problem is not None]
    return Verified(
        name=checkpoint.name,
        url=checkpoint.url,
        sound=not problems,
        files=len(committed.files),
        bytes=committed.bytes,
        problems=problems,
    )


def pull_checkpoint(
    checkpoint: Checkpoint, folder: Path, *, streams: int = 4, progress: Callable[[int], None] | None = None
) -> Path:
    """Copy a checkpoint to `folder/NAME`, verified, marker last. Files that are there and sound are not fetched again.

    UserError if a file is not what was committed.
    """
    require_local(folder, "--output", fix="name a folder of this machine")
    target = folder / checkpoint.name
    try:
        check_sizes(checkpoint)
        with ThreadPoolExecutor(streams) as pool:
            list(
                pool.map(lambda name: _pull_one(checkpoint, target, name, progress), sorted(checkpoint.committed.files))
            )
    except CorruptCheckpoint as error:
        raise error.as_user_error() from error
    write_atomically(target / MARKER, checkpoint.store.read_bytes(MARKER), durable=False)
    return target


def pin_checkpoint(checkpoint: Checkpoint, *, note: str = "") -> bool:
    """Keep a checkpoint for good. False if it was pinned already."""
    pin = {"nonce": uuid.uuid4().hex, "pinned_at": datetime.now(UTC).isoformat(), "note": note}
    try:
        checkpoint.store.write_once(PINNED, json_bytes(pin))
    except AlreadyExists:
        return False
    return True


def unpin_checkpoint(checkpoint: Checkpoint) -> bool:
    """Leave a checkpoint to retention again. False if it was not pinned."""
    checkpoint.store.remove(PINNED)
    return checkpoint.pinned


def prune(run: Store, keep: KeepConfig, *, dry_run: bool = False) -> Pruned:
    """Delete what no tier holds, as the run itself does after each commit; a dry run only tells."""
    removal, listing = plan_removal(run, keep)
    sizes = [listing.by_name()[name].sizes for name in removal.deleted] + [listing.torn[name] for name in removal.torn]
    if not dry_run:
        removal = apply_retention(run, keep)
    return Pruned(
        deleted=list(removal.deleted),
        torn=list(removal.torn),
        bytes=sum(sum(files.values()) for files in sizes),
        dry_run=dry_run,
    )


def _pull_one(checkpoint: Checkpoint, target: Path, name: str, progress: Callable[[int], None] | None) -> None:
    with VerifiedFiles(checkpoint, target, keep=True).file(name) as path:
        if checkpoint.store.is_local:  # verified in place; a remote file has been fetched into the target
            with replacing(target / name, durable=False) as temporary:
                shutil.copyfile(path, temporary)
    if progress is not None:
        progress(checkpoint.committed.files[name].bytes)


def _tiers(run: Store, listing: RunListing) -> dict[str, tuple[str, ...]]:
    order = read_lineage(run, _names(listing.committed))
    return tiers([Facts.of(checkpoint) for checkpoint in listing.committed], order.names, keep_of(run))


def _names(checkpoints: Iterable[Checkpoint]) -> list[str]:
    return [checkpoint.name for checkpoint in checkpoints]


def _row(checkpoint: Checkpoint, held: Iterable[str]) -> CheckpointRow:
    committed = checkpoint.committed
    return CheckpointRow(
        name=checkpoint.name,
        step=committed.step,
        attempt=committed.attempt,
        tiers=list(held),
        loss=committed.loss,
        validation_loss=committed.validation_loss,
        bytes=committed.bytes,
        committed_at=committed.committed_at,
        url=checkpoint.url,
    )
