"""The newest step in the files that wandb wrote in offline mode; called by `trainer.metrics.trackers.wandb`.

wandb's process writes late, and nothing more once the machine or its parent is killed, so only the files themselves
tell what is in them. They are logs in LevelDB's format: blocks of 32 KiB, in them records in parts, each with a CRC, a
length and whether it is whole, a first, a middle or a last part; before them 7 bytes of wandb's own.
"""

from __future__ import annotations

import logging
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_BLOCK_BYTES = 32 * 2**10
_MAGIC = b":W&B"
_FILE_HEADER_BYTES = 7
_PART_HEADER = struct.Struct("<IHB")
_WHOLE, _LAST = 1, 4
_log = logging.getLogger(__name__)


def newest_step(folder: Path, run_id: str) -> int:
    """The highest step of a run in the offline files below `folder`; -1 where there is none."""
    newest = -1
    for file in folder.glob(f"wandb/offline-run-*-{run_id}/run-{run_id}.wandb"):
        try:
            newest = max([newest, *_steps(file.read_bytes())])
        except Exception as error:  # a newer wandb may write another format
            _log.warning("tracker wandb: %s cannot be read (%s), so steps in it may be there twice", file, error)
    return newest


def _steps(data: bytes) -> Iterator[int]:
    # Its stubs are those of one protobuf version and not of another.
    from wandb.proto import wandb_internal_pb2

    record_class: Any = vars(wandb_internal_pb2)["Record"]

    if not data.startswith(_MAGIC):
        raise ValueError(f"begins with {data[:8]!r}")
    for content in records_of(data):
        record = record_class()
        record.ParseFromString(content)
        if record.HasField("history"):
            yield int(record.history.step.num)


def records_of(data: bytes) -> Iterator[bytes]:
    """Whole records; a last one that was cut off is left out."""
    position, parts = _FILE_HEADER_BYTES, b""
    while position + _PART_HEADER.size <= len(data):
        left = _BLOCK_BYTES - position % _BLOCK_BYTES
        if left < _PART_HEADER.size:  # too short for a header: filled up
            position += left
            continue
        _, length, kind = _PART_HEADER.unpack_from(data, position)
        position += _PART_HEADER.size
        if kind == 0 or position + length > len(data):
            return
        parts += data[position : position + length]
        position += length
        if kind in (_WHOLE, _LAST):
            yield parts
            parts = b""
