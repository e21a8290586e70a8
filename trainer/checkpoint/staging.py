"""Copies a state dict to host memory, so that training may go on while it is written.

Names are flattened here (`model.layers.0.weight`), for saving and for loading alike. Buffers are kept from save to save
and pinned for CUDA; torch's own stager of 2.11 serves one save only. The Saver and the loader call it.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch.distributed.checkpoint.default_planner import DefaultSavePlanner
from torch.distributed.checkpoint.metadata import MetadataIndex
from torch.distributed.tensor import DTensor


def flatten(nested: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested containers -> one dict, keys joined by dots, in the way that torch's planners name entries."""
    flat: dict[str, Any] = {}
    for key, value in nested.items():
        name = f"{prefix}{key}"
        branches = _branches(value)
        below = {name: value} if branches is None else flatten(branches, f"{name}.")
        assert flat.keys().isdisjoint(below), f"two values are named {name}"
        flat.update(below)
    return flat


def flatten_below(nested: Mapping[str, Any]) -> dict[str, Any]:
    """Flat below each top-level key, which gives the same names: torch logs every top-level entry it is given."""
    branches = {key: _branches(value) for key, value in nested.items()}
    return {key: nested[key] if found is None else flatten(found) for key, found in branches.items()}


def put_back(nested: Any, flat: Mapping[str, Any], prefix: str = "") -> None:
    """The inverse of `flatten`: set the leaves of a dict (or list) from `flat`, in place."""
    for key, value in list(nested.items() if isinstance(nested, dict) else enumerate(nested)):
        name = f"{prefix}{key}"
        if _branches(value) is None:
            nested[key] = flat[name]
        else:
            put_back(value, flat, f"{name}.")


def local_part(value: Any) -> Any:
    """This rank's shard of a DTensor; anything else as it is."""
    return value.to_local() if isinstance(value, DTensor) else value


class HostCopy:
    """Host buffers for one state dict, reused by every save."""

    def __init__(self) -> None:
        self._buffers: dict[str, torch.Tensor] = {}

    @torch.no_grad()
    def take(self, flat: Mapping[str, Any]) -> dict[str, Any]:
        """This rank's part of every value as of now: tensors in host buffers, the rest deep-copied."""
        taken: dict[str, Any] = {}
        on_cuda = False
        for name, value in flat.items():
            if not isinstance(value, torch.Tensor):
                taken[name] = copy.deepcopy(value)
                continue
            part = local_part(value)
            buffer = self._buffers.get(name)
            if buffer is None or buffer.shape != part.shape or buffer.dtype != part.dtype:
                buffer = torch.empty(part.shape, dtype=part.dtype, device="cpu", pin_memory=part.is_cuda)
            buffer.copy_(part, non_blocking=part.is_cuda)
            on_cuda = on_cuda or part.is_cuda
            taken[name] = buffer
        self._buffers = {name: value for name, value in taken.items() if isinstance(value, torch.Tensor)}
        if on_cuda:
            torch.cuda.current_stream().synchronize()
        return taken


class StagedPlanner(DefaultSavePlanner):
    """Plans from the live state dict (shapes and shards only), but writes the values that were taken of it."""

    def __init__(self, taken: Mapping[str, Any]) -> None:
        # No plan caching: torch keeps plans per process, and ranks whose caches differ wait for each other for ever.
        super().__init__()
        self._taken = taken

    def lookup_object(self, index: MetadataIndex) -> Any:
        """The value to write for an item of the plan: a rank holds one shard of each tensor at most."""
        return self._taken[index.fqn]


def _branches(value: Any) -> Mapping[str, Any] | None:
    """What torch descends into: dicts, and lists that hold a tensor or a dict at any depth; None for a leaf."""
    if isinstance(value, Mapping):
        return value
    if isinstance(value, list) and any(
        isinstance(entry, torch.Tensor) or _branches(entry) is not None for entry in value
    ):
        return {str(index): entry for index, entry in enumerate(value)}
    return None
