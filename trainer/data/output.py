"""The output folder of a preparation: who may write it, and what of it is finished.

Called by `trainer.data.prepare`. prepare.json is written first and after every shard: it tells a folder that
preparation may change from one that it must not touch, and an interrupted preparation where to go on. dataset.json is
written last. One process writes at a time, under a kernel lock that dies with its owner.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from itertools import takewhile
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from trainer.data.disk import sole_owner
from trainer.data.shards import (
    DATASET_FILE,
    TOKENIZER_FILE,
    DatasetInfo,
    ShardInfo,
    ShardWriter,
    file_sha256,
    load_dataset_json,
)
from trainer.durable import write_atomically
from trainer.errors import UserError

logger = logging.getLogger(__name__)

SPLITS = ("train", "validation")
MARK_FILE = "prepare.json"
# What cleaned text was made from.
CLEANED_FILE = "cleaned.json"
LOCK_FILE = ".prepare.lock"
# The lock, and a mark that was being written when its process was killed.
_OWN_PREFIX = ".prepare."


class Mark(BaseModel):
    """The content of prepare.json."""

    model_config = ConfigDict(frozen=True, extra="ignore", use_attribute_docstrings=True)

    inputs_sha256: str
    """Hash of all that decides the output."""
    tokenizer_fingerprint: str | None = None
    """The tokenizer that made the shards; null until tokenizer.json is written."""
    shards: dict[str, tuple[ShardInfo, ...]] = dict.fromkeys(SPLITS, ())
    """The shards of each split that are finished, in order."""


def check_ours(folder: Path) -> None:
    """Raise UserError where `folder` holds what preparation did not write."""
    if not folder.exists():
        return
    if not folder.is_dir():
        raise UserError(f"{folder} is a file", expected="a folder", fix="give another output")
    foreign = sorted(path.name for path in folder.iterdir() if not path.name.startswith(_OWN_PREFIX))
    if foreign and _read_mark(folder) is None:
        raise UserError(
            f"{folder} holds files that preparation did not write: {', '.join(foreign[:5])}",
            expected="an empty folder, a new one, or an output of this pipeline",
            fix="give another output",
        )


@contextmanager
def sole_writer(folder: Path) -> Iterator[None]:
    """Make `folder` if need be and wait until no other process prepares it."""
    folder.mkdir(parents=True, exist_ok=True)
    with sole_owner(folder / LOCK_FILE, f"prepares {folder}"):
        yield


def complete_set(folder: Path, inputs_sha256: str) -> DatasetInfo | None:
    """The data set in `folder` if it was made from these inputs and all its files are there in full length."""
    mark, described = _read_mark(folder), folder / DATASET_FILE
    if mark is None or mark.inputs_sha256 != inputs_sha256 or not described.is_file():
        return None
    try:
        info = load_dataset_json(described.read_bytes(), str(described))
    except UserError as error:
        logger.warning("preparing %s again: %s", folder, error.found)
        return None
    files = {folder / TOKENIZER_FILE: None} | {
        folder / shard.file: shard.bytes for split in info.splits.values() for shard in split.shards
    }
    for path, size in files.items():
        if not path.is_file() or size not in (None, path.stat().st_size):
            logger.warning("preparing %s again: %s is missing or truncated", folder, path)
            return None
    return info


def claim(folder: Path, inputs_sha256: str, *, replace: bool) -> Mark:
    """Make `folder` an unfinished output of these inputs; returns what is finished of it, checked by hash.

    Raises UserError where a complete set from other inputs is there, unless it is to be replaced.
    """
    mark, described = _read_mark(folder), folder / DATASET_FILE
    if mark is not None and mark.inputs_sha256 == inputs_sha256:
        described.unlink(missing_ok=True)
        return mark.model_copy(
            update={"shards": {split: _keep_whole(folder, split, mark.shards.get(split, ())) for split in SPLITS}}
        )
    if described.is_file() and not replace:
        raise UserError(
            f"{folder} holds a data set from other inputs",
            expected="an output of this pipeline, its sources and this Python unchanged",
            fix="give another --output, or replace the data set with --replace",
        )
    # The set goes first: from here on the folder is an unfinished output.
    described.unlink(missing_ok=True)
    for split in SPLITS:
        shutil.rmtree(folder / split, ignore_errors=True)
    mark = Mark(inputs_sha256=inputs_sha256)
    write_mark(folder, mark)
    return mark


def claim_cleaned(folder: Path, inputs_sha256: str, *, replace: bool) -> None:
    """Make `folder` hold cleaned text of these inputs: what is finished of it stays, that of others goes.

    Raises UserError for a folder that holds something else, or text from other inputs that is not to be replaced.
    """
    mark = folder / CLEANED_FILE
    made_from = mark.read_text().strip() if mark.is_file() else None
    if made_from == inputs_sha256:
        return
    others = sorted(path.name for path in folder.iterdir() if not path.name.startswith(_OWN_PREFIX))
    if others and (made_from is None or not replace):
        raise UserError(
            f"{folder} holds " + ("other files" if made_from is None else "cleaned text from other inputs"),
            expected="an empty folder, a new one, or text that the same sources and steps gave",
            fix="name another folder as `cleaned`" + ("" if made_from is None else ", or replace it with --replace"),
        )
    if others:
        # Made from nothing that can be asked for: a clean-up that is cut short is taken up by the next call.
        write_atomically(mark, b"being replaced\n")
    for name in others:
        path = folder / name
        if path == mark:
            continue
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
    write_atomically(mark, inputs_sha256.encode() + b"\n")


def write_mark(folder: Path, mark: Mark) -> None:
    """Write prepare.json."""
    write_atomically(folder / MARK_FILE, mark.model_dump_json().encode() + b"\n")


@contextmanager
def shard_writers(
    folder: Path, mark: Mark, *, dtype: Literal["uint16", "uint32"], shard_tokens: int, marked: bool = False
) -> Iterator[dict[str, ShardWriter]]:
    """A writer for each split, behind the shards that `mark` has; prepare.json learns of each that is finished."""
    finished = dict(mark.shards)

    def note(split: str, shards: tuple[ShardInfo, ...]) -> None:
        finished[split] = shards
        write_mark(folder, mark.model_copy(update={"shards": dict(finished)}))

    with ExitStack() as stack:
        yield {
            split: stack.enter_context(
                ShardWriter(
                    folder,
                    split,
                    dtype=dtype,
                    shard_tokens=shard_tokens,
                    after=mark.shards[split],
                    on_finish=partial(note, split),
                    marked=marked,
                )
            )
            for split in SPLITS
        }


def _read_mark(folder: Path) -> Mark | None:
    """The mark of a folder; None where there is none, or a file of that name that means something else."""
    try:
        return Mark.model_validate_json((folder / MARK_FILE).read_bytes())
    except (OSError, ValidationError):
        return None


def _keep_whole(folder: Path, split: str, shards: Sequence[ShardInfo]) -> tuple[ShardInfo, ...]:
    """The first shards as far as they are whole; everything else in the split's folder is removed."""
    whole = tuple(takewhile(lambda shard: _is_whole(folder, shard), shards))
    kept = {folder / shard.file for shard in whole}
    for path in (folder / split).glob("*"):
        if path not in kept and not path.is_dir():
            path.unlink()
    return whole


def _is_whole(folder: Path, shard: ShardInfo) -> bool:
    path = folder / shard.file
    return path.is_file() and file_sha256(path) == shard.sha256
