"""Reads the pickles of a checkpoint without letting them call anything: they may come from whoever can write a store.

torch unpickles `.metadata`, and every value that is no tensor, without any restriction. A hash in the marker tells that
a file is the one that was committed, not who committed it; so these two are read here, by readers that know the few
classes of a checkpoint alone. `reader` and `load` use them.
"""

from __future__ import annotations

import io
import pickle
from typing import Any

import torch
from torch.distributed.checkpoint.default_planner import DefaultLoadPlanner
from torch.distributed.checkpoint.metadata import _MEM_FORMAT_ENCODING, Metadata
from torch.distributed.checkpoint.planner import ReadItem

_METADATA = "torch.distributed.checkpoint.metadata"
# What torch 2.11 to 2.13 write into .metadata, types of tensors aside. None of it does more than hold values.
_KNOWN = {
    ("torch", "Size"),
    ("torch.serialization", "_get_layout"),
    ("torch.distributed.checkpoint.filesystem", "_StorageInfo"),
    *(
        (_METADATA, name)
        for name in (
            "Metadata",
            "MetadataIndex",
            "StorageMeta",
            "TensorStorageMetadata",
            "BytesStorageMetadata",
            "ChunkStorageMetadata",
            "TensorProperties",
            "_MEM_FORMAT_ENCODING",
        )
    ),
}


class _MetadataUnpickler(pickle.Unpickler):
    """Knows the classes of a checkpoint's metadata; any other is refused before it is looked up."""

    def find_class(self, module_name: str, global_name: str, /) -> Any:
        if (module_name, global_name) == ("builtins", "getattr"):
            return _memory_format
        known = (module_name, global_name) in _KNOWN
        is_dtype = module_name == "torch" and isinstance(getattr(torch, global_name, None), torch.dtype)
        if known or is_dtype:
            return super().find_class(module_name, global_name)
        raise pickle.UnpicklingError(f"it names {module_name}.{global_name}, which none needs")


def _memory_format(kind: Any, name: Any) -> _MEM_FORMAT_ENCODING:
    """What stands in the place of `getattr`, by which Python 3.11.0 to 3.11.3 pickle a member of an enumeration."""
    if kind is _MEM_FORMAT_ENCODING and isinstance(name, str) and name in _MEM_FORMAT_ENCODING.__members__:
        return _MEM_FORMAT_ENCODING[name]
    raise pickle.UnpicklingError("it names builtins.getattr for more than a memory format, which none needs")


def read_metadata(data: bytes) -> Metadata:
    """The content of a .metadata file. pickle.UnpicklingError for anything else, of which nothing was run."""
    try:
        found = _MetadataUnpickler(io.BytesIO(data)).load()
    except pickle.UnpicklingError:
        raise
    except Exception as error:  # damaged pickles raise anything
        raise pickle.UnpicklingError(f"{type(error).__name__}: {error}") from error
    if not isinstance(found, Metadata):
        raise pickle.UnpicklingError(f"it holds a {type(found).__name__}")
    return found


class PlainValuesPlanner(DefaultLoadPlanner):
    """torch's planner, which takes of values that are no tensors only what `weights_only` makes of them."""

    def load_bytes(self, read_item: ReadItem, value: io.BytesIO) -> None:
        """Put a value into the state dict. pickle.UnpicklingError for one that would call something."""
        plain = io.BytesIO()
        torch.save(torch.load(value, weights_only=True), plain)
        plain.seek(0)
        super().load_bytes(read_item, plain)
