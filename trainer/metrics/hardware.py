"""The device that a rank works on: its name, its peak arithmetic rate (the denominator of MFU), its memory.

Called by the train loop. A device that is not in the table of accelerators has no MFU.
"""

from __future__ import annotations

import torch

from trainer.metrics.accelerators import by_cuda_name
from trainer.metrics.resident import peak_resident_bytes


def device_name(device: torch.device) -> str:
    """The name CUDA gives the device, or `cpu`."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def peak_flops_per_second(name: str) -> float | None:
    """Dense half-precision peak of the device called `name`, or None if it is not known."""
    accelerator = by_cuda_name(name)
    return accelerator.dense_flops_per_second if accelerator else None


def memory_bytes(device: torch.device) -> int:
    """Peak memory so far: allocated on the GPU, or resident of the process on a CPU."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    return peak_resident_bytes()
