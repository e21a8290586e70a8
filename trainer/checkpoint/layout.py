"""Names and documents of a run's folder: what is called what, and how it reads.

Pure but for `read_checkpoints`, which turns one listing into the committed checkpoints of a run. The contract of these
names and fields is in docs/reference; dashboards and users' scripts rely on it.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from trainer.checkpoint.store import Store
from trainer.errors import UserError
from trainer.paths import PathPart, RelativePath

FORMAT = 1
CHECKPOINTS = "checkpoints"
MARKER = "COMMITTED.json"
PINNED = "PINNED"
METADATA = ".metadata"
PROGRESS = "progress.json"
CONFIG = "config.yaml"
RUN_FILE = "run.yaml"
# Times that a run is looked at where somebody deletes what is read.
LOOKS = 3

_NAME = re.compile(r"step-(\d{8,})-a(\d{4,})")


class CorruptCheckpoint(Exception):
    """A committed checkpoint is not what its marker says: the caller may fall back to an older one."""

    def __init__(self, name: str, file: str, reason: str) -> None:
        super().__init__(name, file, reason)
        self.name = name
        self.file = file
        self.reason = reason

    def __str__(self) -> str:
        return f"checkpoint {self.name}: {self.file} {self.reason}"

    def as_user_error(self) -> UserError:
        """For a command that was told to use this checkpoint and no other."""
        return UserError(
            str(self),
            expected="a checkpoint whose files are as they were written",
            fix="name another one; `gpt-run checkpoints verify` tells which are sound",
        )


class FileEntry(BaseModel):
    """One file of a checkpoint."""

    model_config = ConfigDict(frozen=True)

    bytes: int
    sha256: str


class Committed(BaseModel):
    """COMMITTED.json: a checkpoint exists when this file does. Fields of later minor versions are ignored."""

    # A loss that is not a number is written as the string "NaN": JSON has no such number.
    model_config = ConfigDict(frozen=True, extra="ignore", ser_json_inf_nan="strings")

    format: int = FORMAT
    nonce: str
    run: PathPart
    step: int
    tokens: int
    epoch: float
    attempt: int
    world_size: int
    loss: float
    validation_loss: float | None = None
    config_sha256: str
    model_sha256: str
    dataset_sha256: str
    tokenizer_sha256: str
    committed_at: datetime
    duration_seconds: float
    bytes: int
    files: dict[RelativePath, FileEntry]
    sha256: str | None = None
    """Of the rest of the document (`document_sha256`); None in markers of older programs."""

    def sealed(self) -> Committed:
        """With the hash of everything else."""
        return self.model_copy(update={"sha256": document_sha256(json.loads(self.model_dump_json()))})

    @property
    def name(self) -> str:
        """The checkpoint's folder name."""
        return checkpoint_name(self.step, self.attempt)


@dataclass(frozen=True)
class Checkpoint:
    """A committed checkpoint as a listing found it."""

    store: Store  # of the checkpoint's own folder
    committed: Committed
    sizes: Mapping[str, int]  # file -> bytes, as listed, the marker included

    @property
    def name(self) -> str:
        return self.committed.name

    @property
    def step(self) -> int:
        return self.committed.step

    @property
    def attempt(self) -> int:
        return self.committed.attempt

    @property
    def pinned(self) -> bool:
        return PINNED in self.sizes

    @property
    def url(self) -> str:
        return self.store.url

    def is_gone(self) -> bool:
        """Whether it was deleted since it was listed."""
        return not self.store.exists(MARKER)

    def base_in(self, run: Store) -> str:
        """How a claim in `run` names the checkpoint it begins from: by name if it is the run's own, else by URL."""
        return self.name if self.url == run.url_of(f"{CHECKPOINTS}/{self.name}") else self.url


@dataclass(frozen=True)
class RunListing:
    """One reading of `checkpoints/`: the committed ones by step, and folders that are not (with their files)."""

    committed: tuple[Checkpoint, ...]
    torn: Mapping[str, Mapping[str, int]]  # folder name -> file -> bytes
    broken: Mapping[str, str]  # folder name -> why its marker cannot be read

    def by_name(self) -> dict[str, Checkpoint]:
        """Committed checkpoints by folder name."""
        return {checkpoint.name: checkpoint for checkpoint in self.committed}


def checkpoint_name(step: int, attempt: int) -> str:
    """Folder of the checkpoint that `attempt` writes at `step`: step-00000250-a0003."""
    return f"step-{step:08d}-{attempt_name(attempt)}"


def attempt_name(attempt: int) -> str:
    """a0003."""
    return f"a{attempt:04d}"


def parse_name(name: str) -> tuple[int, int] | None:
    """(step, attempt) of a checkpoint's folder name; None if it is not one."""
    match = _NAME.fullmatch(name)
    if match is None:
        return None
    step, attempt = int(match[1]), int(match[2])
    return (step, attempt) if checkpoint_name(step, attempt) == name else None


def rank_file(rank: int) -> str:
    """File with the state of one rank that does not reshard."""
    return f"rank-{rank:05d}.bin"


def parse_committed(data: bytes, where: str) -> Committed:
    """Read COMMITTED.json. UserError if a newer program wrote it, CorruptCheckpoint if it makes no sense."""
    name = where.rstrip("/").rpartition("/")[2]
    try:
        fields = json.loads(data)
        found = fields["format"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise CorruptCheckpoint(name, MARKER, "is not the JSON of a checkpoint's marker") from error
    if isinstance(found, int):
        require_format(f"{where}: checkpoint format", found, newest=FORMAT)
    if fields.get("sha256") not in (None, document_sha256(fields)):
        # Before anything is made of it: a wrong loss is as bad as a wrong list of files.
        raise CorruptCheckpoint(name, MARKER, "is not as it was written")
    try:
        committed = Committed.model_validate(fields)
    except ValidationError as error:
        key = ".".join(str(part) for part in error.errors()[0]["loc"])
        raise CorruptCheckpoint(name, MARKER, f"has no valid {key!r}") from error
    if committed.name != name:
        raise CorruptCheckpoint(name, MARKER, f"belongs to {committed.name}")
    return committed


def require_format(what: str, found: int, *, newest: int) -> None:
    """UserError if a document's format is newer than the newest that this program reads."""
    if found > newest:
        raise UserError(
            f"{what} {found}",
            expected=f"format {newest}, the newest that this program reads",
            fix="use the program that wrote it, or a newer one",
        )


def document_sha256(fields: Mapping[str, Any]) -> str:
    """Hex sha256 of a marker's canonical JSON without its own hash."""
    rest = {key: value for key, value in fields.items() if key != "sha256"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def marker_bytes(document: BaseModel) -> bytes:
    """A document as it is written: indented JSON with a final line feed."""
    return document.model_dump_json(indent=1).encode() + b"\n"


def json_bytes(value: Any) -> bytes:
    """Plain data as it is written: sorted keys, indented, with a final line feed."""
    return json.dumps(value, sort_keys=True, indent=1).encode() + b"\n"


def read_checkpoints(run: Store) -> RunListing:
    """List a run's checkpoints: one listing, then the markers in parallel. UserError for a newer format.

    Again where one was deleted in between: whoever made room has committed a newer one, which the listing lacks.
    """
    for _ in range(LOOKS - 1):
        listing, gone = _look(run)
        if not gone:
            return listing
    listing, gone = _look(run)
    # Not as if they had never been: a run that finds nothing starts from scratch.
    return replace(listing, broken={**listing.broken, **gone})


def _look(run: Store) -> tuple[RunListing, dict[str, str]]:
    """One listing with its markers, and what it names of which the marker is there no more."""
    folders = group_by_folder(run.find(CHECKPOINTS).items())
    marked = [name for name, files in folders.items() if MARKER in files]
    committed: list[Checkpoint] = []
    broken: dict[str, str] = {}
    gone: dict[str, str] = {}
    with ThreadPoolExecutor(max_workers=8) as pool:
        for name, found in zip(marked, pool.map(lambda name: _read_one(run, name, folders[name]), marked), strict=True):
            if isinstance(found, CorruptCheckpoint):
                broken[name] = str(found)
            elif found is None:
                gone[name] = f"checkpoint {name} was deleted while it was read"
            else:
                committed.append(found)
    torn = {name: files for name, files in folders.items() if MARKER not in files}
    committed.sort(key=lambda checkpoint: (checkpoint.step, checkpoint.attempt))
    return RunListing(tuple(committed), torn, broken), gone


def group_by_folder(files: Iterable[tuple[str, int]]) -> dict[str, dict[str, int]]:
    """{checkpoints/NAME/FILE: bytes} -> {NAME: {FILE: bytes}}; whatever is not of a checkpoint's folder is left out."""
    folders: dict[str, dict[str, int]] = {}
    for path, size in sorted(files):
        parts = path.split("/", 2)
        if len(parts) == 3 and parse_name(parts[1]) is not None:
            folders.setdefault(parts[1], {})[parts[2]] = size
    return folders


def _read_one(run: Store, name: str, sizes: Mapping[str, int]) -> Checkpoint | CorruptCheckpoint | None:
    folder = run.child(f"{CHECKPOINTS}/{name}")
    try:
        return Checkpoint(folder, parse_committed(folder.read_bytes(MARKER), folder.url), sizes)
    except CorruptCheckpoint as error:
        return error
    except FileNotFoundError:  # retention took it between the listing and now
        return None
