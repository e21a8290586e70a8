"""Writes a safetensors file tensor by tensor: no more than one has to be in memory.

The library's own writer takes all tensors of a file at once; it reads what is written here. The format is eight bytes
of length, a JSON header with every tensor's type, shape and place, and the values end to end
(https://github.com/huggingface/safetensors#format). Called by `hf`.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

_DTYPES = {torch.float32: "F32", torch.bfloat16: "BF16", torch.float16: "F16"}
_ALIGNMENT_BYTES = 8


def write_safetensors(
    file: Path, shapes: Mapping[str, torch.Size], dtype: torch.dtype, tensors: Iterable[tuple[str, Tensor]]
) -> None:
    """Write `tensors`, which come in the order of `shapes`, and are cast to `dtype` one by one."""
    expected = iter(shapes.items())
    with file.open("wb") as stream:
        stream.write(_header(shapes, dtype))
        for name, tensor in tensors:
            assert (name, tensor.shape) == next(expected), f"{name} {list(tensor.shape)} is not the next tensor"
            values = tensor.detach().to(dtype).contiguous().flatten()
            stream.write(values.view(torch.uint8).numpy().data)
            # Let go before the next one is made.
            del tensor, values
    assert next(expected, None) is None, "a tensor is missing"


def _header(shapes: Mapping[str, torch.Size], dtype: torch.dtype) -> bytes:
    # Transformers refuses a file that does not say which framework wrote it.
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    start = 0
    for name, shape in shapes.items():
        end = start + shape.numel() * dtype.itemsize
        header[name] = {"dtype": _DTYPES[dtype], "shape": list(shape), "data_offsets": [start, end]}
        start = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % _ALIGNMENT_BYTES)
    return struct.pack("<Q", len(text)) + text
