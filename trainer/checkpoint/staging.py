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
    """Nested dicts -> one dict, keys joined by dots. Lists and other values are leaves, and hold no tensors."""
    flat: dict[str, Any] = {}
    for key, value in nested.items():
        name = f"{prefix}{key}"
        below = flatten(value, f"{name}.") if isinstance(value, Mapping) else {name: value}
        assert flat.keys().isdisjoint(below), f"two values are named {name}"
        flat.update(below)
    return flat


def flatten_below(nested: Mapping[str, Any]) -> dict[str, Any]:
    """Flat below each top-level key, which gives the same names: torch logs every top-level entry it is given."""
    return {key: flatten(value) if isinstance(value, Mapping) else value for key, value in nested.items()}


def put_back(nested: dict[str, Any], flat: Mapping[str, Any], prefix: str = "") -> None:
    """The inverse of `flatten`: set the leaves of `nested` from `flat`, in place."""
    for key, value in nested.items():
        name = f"{prefix}{key}"
        if isinstance(value, dict):
            put_back(value, flat, f"{name}.")
        else:
            nested[key] = flat[name]


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
        super().__init__(enable_plan_caching=True)
        self._taken = taken

    def lookup_object(self, index: MetadataIndex) -> Any:
        """The value to write for an item of the plan: a rank holds one shard of each tensor at most."""
        return self._taken[index.fqn]
