"""Histograms of parameters and gradients, module by module, without a rank ever holding more than its shard.

Called by the loop every `log.histograms_every_steps`, between the backward pass and the update. Bins are the same for
all modules, steps and world sizes, so that ranks add up their counts in one reduction and need no look at the values
before: four an octave, which a number's own upper bits name, so that counting is a shift. Modules of blocks in between
are left out where there are too many, so that a line stays below 100 kB.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

# The upper 11 bits of a float32: sign, exponent, and two bits of the mantissa, which are the bin.
_SHIFT, _BINS = 21, 2**11
_BINS_PER_OCTAVE = 4
_EXPONENT_BIAS = 127
# What lines show: 2^-30 to 2^6, and the same with a minus; between them one bin for zero and what is next to it. What
# is beyond counts into the outermost bins. wandb takes up to 512 bins.
_SMALLEST_OCTAVE, _LARGEST_OCTAVE = -30, 6
_MOST_BLOCKS = 16
# Values that are counted at a time: bounds the memory for it to some tens of megabytes.
_PIECE = 2**21


class Histograms:
    """What one step's parameters and gradients looked like; `take` is called on every rank, in the step."""

    def __init__(self, model: nn.Module, num_blocks: int) -> None:
        self._model, self._num_blocks = model, num_blocks
        self._modules: list[str] = []
        self._counts: list[list[int]] | None = None

    @torch.no_grad()
    def take(self) -> None:
        """Count, and add up over ranks. Collective."""
        # Looked up after the backward pass: after an evaluation FSDP has whole parameters in place until then.
        modules = _modules(self._model, self._num_blocks)
        parameters = [parameter for module in modules.values() for parameter in module]
        device = _local(parameters[0]).device
        rows = []
        for module in modules.values():
            rows.append(_count([_local(parameter) for parameter in module], device))
            rows.append(_count([_local(each.grad) for each in module if each.grad is not None], device))
        counts = torch.stack(rows)
        if isinstance(parameters[0], DTensor):
            mesh, placements = parameters[0].device_mesh, parameters[0].placements
            for dimension, placement in enumerate(placements):
                # Replicas hold the same values: only shards add up.
                if placement.is_shard() and mesh.size(dimension) > 1:
                    dist.all_reduce(counts, group=mesh.get_group(dimension))
        self._modules, self._counts = list(modules), counts.tolist()

    def record(self) -> dict[str, Any] | None:
        """The part of a line of histograms.jsonl; None if nothing was taken, as in a step without an update.

        `counts[i]` of a module is of the values from `edges[first + i]` to the next edge.
        """
        if self._counts is None:
            return None
        rows = iter(self._counts)
        record: dict[str, Any] = {"edges": _EDGES, "parameters": {}, "gradients": {}}
        for module in self._modules:
            record["parameters"][module] = _shown(next(rows))
            record["gradients"][module] = _shown(next(rows))
        return record


_POSITIVE_EDGES = [
    2.0**octave * (1 + part / _BINS_PER_OCTAVE)
    for octave in range(_SMALLEST_OCTAVE, _LARGEST_OCTAVE)
    for part in range(_BINS_PER_OCTAVE)
] + [2.0**_LARGEST_OCTAVE]
_EDGES = [-edge for edge in reversed(_POSITIVE_EDGES)] + _POSITIVE_EDGES
# Bins of one sign that lines show, and which bin of the bits is the first of them.
_SIDE = len(_POSITIVE_EDGES) - 1
_FIRST_SHOWN = (_SMALLEST_OCTAVE + _EXPONENT_BIAS) * _BINS_PER_OCTAVE


def _modules(model: nn.Module, num_blocks: int) -> dict[str, list[nn.Parameter]]:
    """Parameters by what they belong to: `embed`, `blocks.03.attention`, `blocks.03.mlp`, `blocks.03.norms`, ..."""
    shown = {round(i * (num_blocks - 1) / max(1, _MOST_BLOCKS - 1)) for i in range(_MOST_BLOCKS)}
    found: dict[str, list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        # A compiled block is called `_orig_mod` in between.
        parts = [part for part in name.split(".") if part != "_orig_mod"]
        if parts[0] == "blocks":
            if int(parts[1]) not in shown:
                continue
            part = "norms" if parts[2].endswith("norm") else parts[2]
            key = f"blocks.{int(parts[1]):02d}.{part}"
        else:
            key = parts[0]
        found.setdefault(key, []).append(parameter)
    return found


def _count(tensors: list[Tensor], device: torch.device) -> Tensor:
    """Values per bin of their bits, int64 [2048]."""
    counts = torch.zeros(_BINS, dtype=torch.int64, device=device)
    for tensor in tensors:
        for piece in tensor.flatten().split(_PIECE):
            bins = (piece.float().view(torch.int32) >> _SHIFT) & (_BINS - 1)
            counts += torch.bincount(bins, minlength=_BINS)
    return counts


def _local(tensor: Tensor) -> Tensor:
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def _shown(counts: list[int]) -> dict[str, Any]:
    """In the bins of `_EDGES`, without the empty ones at both ends."""
    positive, negative = counts[: _BINS // 2], counts[_BINS // 2 :]
    last = _FIRST_SHOWN + _SIDE
    sides = []
    for side in (positive, negative):
        shown = side[_FIRST_SHOWN:last]
        shown[-1] += sum(side[last:])
        sides.append(shown)
    middle = sum(positive[:_FIRST_SHOWN]) + sum(negative[:_FIRST_SHOWN])
    spread = [*reversed(sides[1]), middle, *sides[0]]
    filled = [number for number, count in enumerate(spread) if count]
    first, end = (filled[0], filled[-1] + 1) if filled else (0, 0)
    return {"first": first, "counts": spread[first:end]}
