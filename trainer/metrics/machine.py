"""What a rank can tell of its GPU and, one rank a node, of its node; and how rank 0 gets to know it of all.

Read once an interval, so that no thread is needed. A figure that cannot be had (no NVML, no such sensor) is NaN, and is
left out of lines and metrics.
"""

from __future__ import annotations

import math
import os
import platform
import shutil
from collections.abc import Callable
from dataclasses import astuple, dataclass, fields

import psutil
import torch
import torch.distributed as dist

# The Kubernetes node of a pod, whose own name is another.
NODE_VARIABLE = "GPTRUN_NODE"
# NVML and /proc are read at most this often; in between the newest figures stand.
_READ_SECONDS = 2.0


@dataclass(frozen=True)
class Place:
    """Where a rank runs; told to rank 0 once."""

    node: str
    host: str
    """What `/status` and claims call it: in a pod the pod's name, though on the nodes' network the system has the
    node's."""
    gpu: int | None
    """Index among the GPUs that the process sees; None on a CPU."""
    gpu_name: str | None
    tells_of_node: bool
    """The first rank of its node."""


@dataclass(frozen=True)
class Reading:
    """One rank's figures; NaN for what is not known."""

    own_step_seconds: float = math.nan
    """Its own work in the newest profiled step, without waiting for other ranks."""
    gpu_utilization_ratio: float = math.nan
    gpu_memory_used_bytes: float = math.nan
    gpu_memory_total_bytes: float = math.nan
    gpu_power_watts: float = math.nan
    gpu_temperature_celsius: float = math.nan
    node_cpu_ratio: float = math.nan
    node_memory_used_bytes: float = math.nan
    node_memory_total_bytes: float = math.nan
    node_disk_free_bytes: float = math.nan
    """Of the file system with the working folder."""
    node_network_bytes_per_second: float = math.nan
    """In and out, without loopback."""


class Machine:
    """This rank's view of what it runs on."""

    def __init__(self, device: torch.device, *, host: str, tells_of_node: bool) -> None:
        on_gpu = device.type == "cuda"
        self._device = device
        self.place = Place(
            node=os.environ.get(NODE_VARIABLE) or platform.node(),
            host=host,
            gpu=device.index if on_gpu else None,
            gpu_name=torch.cuda.get_device_name(device) if on_gpu else None,
            tells_of_node=tells_of_node,
        )
        self._read_at = -math.inf
        self._network_bytes = _network_bytes()
        self._newest: dict[str, float] = {}
        psutil.cpu_percent()  # measures from its last call on

    def read(self, own_step_seconds: float, now: float) -> Reading:
        """The figures of now, a monotonic clock's reading."""
        if now - self._read_at >= _READ_SECONDS:
            self._newest = {}
            if self._device.type == "cuda":
                self._newest |= self._read_gpu()
            if self.place.tells_of_node:
                self._newest |= self._read_node(now)
            self._read_at = now
        return Reading(own_step_seconds=own_step_seconds, **self._newest)

    def _read_gpu(self) -> dict[str, float]:
        device = self._device
        free, total = torch.cuda.mem_get_info(device)
        return {
            "gpu_memory_used_bytes": float(total - free),
            "gpu_memory_total_bytes": float(total),
            "gpu_utilization_ratio": _by_nvml(lambda: torch.cuda.utilization(device) / 100),
            "gpu_power_watts": _by_nvml(lambda: torch.cuda.power_draw(device) / 1000),
            "gpu_temperature_celsius": _by_nvml(lambda: float(torch.cuda.temperature(device))),
        }

    def _read_node(self, now: float) -> dict[str, float]:
        memory = psutil.virtual_memory()
        before, self._network_bytes = self._network_bytes, _network_bytes()
        return {
            "node_cpu_ratio": psutil.cpu_percent() / 100,
            "node_memory_used_bytes": float(memory.total - memory.available),
            "node_memory_total_bytes": float(memory.total),
            "node_disk_free_bytes": float(shutil.disk_usage(".").free),
            "node_network_bytes_per_second": max(self._network_bytes - before, 0) / max(now - self._read_at, 1e-9),
        }


def gather_readings(reading: Reading, world_size: int) -> list[Reading]:
    """Everybody's, in the order of ranks. Collective; through the CPU's group, so that no GPU is waited for."""
    if world_size == 1:
        return [reading]
    mine = torch.tensor(astuple(reading), dtype=torch.float64)
    everyone = [torch.empty(len(fields(Reading)), dtype=torch.float64) for _ in range(world_size)]
    dist.all_gather(everyone, mine)
    return [Reading(*row.tolist()) for row in everyone]


def _by_nvml(ask: Callable[[], float]) -> float:
    """NaN where the driver does not tell: under MIG, or in a container without its library."""
    try:
        return ask()
    except Exception:  # NVML's errors have no class that torch exports
        return math.nan


def _network_bytes() -> int:
    counters = psutil.net_io_counters(pernic=True)
    return sum(one.bytes_sent + one.bytes_recv for name, one in counters.items() if name != "lo")
