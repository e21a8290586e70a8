"""Bring an export into a store, so that nobody takes half of it for whole; an interrupted upload goes on.

Weights go first, what a loader begins with (config.json) after them and exported.json last. While it is under way
`uploading.json` lists what has arrived: an upload that is started again sends what is not on the list with the same
hash and size. Called by `trainer.evaluate.export`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pydantic import BaseModel, ValidationError

from trainer.checkpoint.layout import FileEntry, json_bytes
from trainer.checkpoint.store import Store, open_store
from trainer.data.progress import progress
from trainer.errors import UserError
from trainer.evaluate.exported import RECORD, Exported
from trainer.evaluate.hub import SCHEME, check_repository, upload_to_hub

UNDER_WAY = "uploading.json"
# What programs look at first comes after what it speaks of.
_LAST = ("model.safetensors.index.json", "config.json", "model.onnx")


class _Arrived(BaseModel):
    """The files of exported.json and uploading.json alike."""

    files: dict[str, FileEntry]


def check_target(url: str) -> None:
    """UserError for a place that cannot take an export, before one is made."""
    if url.startswith(SCHEME):
        check_repository(url)
        return
    store = open_store(url)
    there = store.find()
    if there and RECORD not in there and UNDER_WAY not in there:
        raise UserError(
            f"{store.url} holds {len(there)} files and neither {RECORD} nor {UNDER_WAY}, so it is no export",
            expected="an empty place, or that of an export",
            fix="name another --upload",
        )


def upload(folder: Path, exported: Exported, url: str, *, replace: bool) -> str:
    """Upload the export in `folder` to `url`; the URL it is at. UserError if another export is there."""
    if url.startswith(SCHEME):
        return upload_to_hub(folder, exported, url)
    store = open_store(url)
    there = store.find()
    arrived = _arrived(store, there)
    if RECORD in there:
        if arrived == exported.files:
            store.remove(UNDER_WAY)
            return store.url
        if not replace:
            raise UserError(
                f"{store.url} holds another export",
                expected="an empty place, or the same export",
                fix="name another --upload, or add --replace",
            )
    _send(store, folder, exported, arrived)
    return store.url


def _arrived(store: Store, there: Mapping[str, int]) -> dict[str, FileEntry]:
    """Files that are known to be whole in the store, by the newer list of the two, if their sizes are as it says."""
    name = UNDER_WAY if UNDER_WAY in there else RECORD
    if name not in there:
        return {}
    try:
        listed = _Arrived.model_validate_json(store.read_bytes(name)).files
    except ValidationError:
        return {}
    return {name: entry for name, entry in listed.items() if there.get(name) == entry.bytes}


def _send(store: Store, folder: Path, exported: Exported, arrived: Mapping[str, FileEntry]) -> None:
    arrived = dict(arrived)
    store.replace(UNDER_WAY, _listed(arrived))
    # From here on the export that may have been there is none any more.
    store.remove(RECORD)
    with progress("upload", exported.bytes) as advance:
        for name in sorted(exported.files, key=lambda name: (name in _LAST, name)):
            entry = exported.files[name]
            if arrived.get(name) == entry:
                advance(entry.bytes)
                continue
            if arrived.pop(name, None) is not None:
                store.replace(UNDER_WAY, _listed(arrived))
            store.upload(folder / name, name, advance)
            arrived[name] = entry
            store.replace(UNDER_WAY, _listed(arrived))
    for name in store.find().keys() - exported.files.keys() - {UNDER_WAY}:
        store.remove(name)
    store.replace(RECORD, (folder / RECORD).read_bytes())
    store.remove(UNDER_WAY)


def _listed(arrived: Mapping[str, FileEntry]) -> bytes:
    return json_bytes({"files": {name: entry.model_dump() for name, entry in arrived.items()}})
