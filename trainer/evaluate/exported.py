"""exported.json: what an export was made of, and the size and sha256 of each of its files.

Written last, on disks and in stores: an export without it is not whole. The same checkpoint and settings give the same
record.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict

from trainer.checkpoint.layout import FileEntry
from trainer.checkpoint.reader import sha256_of

RECORD = "exported.json"


class Exported(BaseModel):
    """The content of exported.json. Fields of later versions are ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    format: Literal[1] = 1
    kind: Literal["hf", "onnx"]
    dtype: str
    run: str
    checkpoint: str
    """Name of the checkpoint in its run."""
    config_sha256: str
    largest_difference: float | None
    """Of a logit of an ONNX graph from the decoder's; None for a Hugging Face folder, whose weights are copies."""
    files: dict[str, FileEntry]

    @property
    def bytes(self) -> int:
        """Of all files but this one."""
        return sum(entry.bytes for entry in self.files.values())


def files_of(folder: Path) -> dict[str, FileEntry]:
    """Size and hash of every file in a folder that has no folders."""
    return {
        file.name: FileEntry(bytes=file.stat().st_size, sha256=sha256_of(file))
        for file in sorted(folder.iterdir())
        if file.name != RECORD
    }
