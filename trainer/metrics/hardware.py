"""Peak arithmetic rates of known accelerators: the denominator of MFU.

Called by the train loop. A device that is not in the table has no MFU; a guessed denominator would be worse than none.
"""

from __future__ import annotations

import torch

# Dense bf16 (and fp16) FLOP per second of one GPU, without sparsity, by a part of the name that CUDA reports.
# Sources: NVIDIA data sheets of H100/H200 (SXM: 989.4; PCIe: 756; NVL: 835), GH200 (989), B200 (2250), A100 (312),
# L40S (362), L4 (121), A10 (125), V100 (125, fp16); H20: 148. More specific names come first.
_DENSE_FLOPS_PER_SECOND: tuple[tuple[str, float], ...] = (
    ("B200", 2250e12),
    ("GH200", 989e12),
    ("H200", 989e12),
    ("H100 PCIe", 756e12),
    ("H100 NVL", 835e12),
    ("H100", 989e12),
    ("H800", 989e12),
    ("H20", 148e12),
    ("A100", 312e12),
    ("A800", 312e12),
    ("L40S", 362e12),
    ("L4", 121e12),
    ("A10G", 70e12),
    ("A10", 125e12),
    ("V100", 125e12),
)


def device_name(device: torch.device) -> str:
    """The name CUDA gives the device, or `cpu`."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def peak_flops_per_second(name: str) -> float | None:
    """Dense half-precision peak of the device called `name`, or None if it is not known."""
    words = name.replace("-", " ")
    for part, flops in _DENSE_FLOPS_PER_SECOND:
        if f" {part} " in f" {words} ":
            return flops
    return None


def memory_bytes(device: torch.device) -> int:
    """Peak memory so far: allocated on the GPU, or resident of the process on a CPU."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    import resource
    import sys

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
