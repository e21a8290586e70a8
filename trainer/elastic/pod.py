"""What a process owes the pod that it is the first process of, and what it finds there."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from trainer.elastic.reasons import Reason

# The pod's name, which the chart sets: on the nodes' network a pod's host name is its node's.
POD_VARIABLE = "GPTRUN_POD"
TERMINATION_LOG = Path("/dev/termination-log")
# What the kubelet reads of it.
_TERMINATION_BYTES = 4096


def collect_orphans() -> None:
    """Reap what was left to process 1 by processes that died; nothing else would. Does nothing in other processes."""
    if os.getpid() != 1:
        return
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG) != (0, 0):
            pass


def in_pod() -> bool:
    """Whether this process runs in a pod, where its ports are known to others."""
    return TERMINATION_LOG.exists()


def host_name() -> str:
    """What this machine is called in /status: in a pod the pod's name, by which the operator finds it."""
    return os.environ.get(POD_VARIABLE) or os.uname().nodename


def explain_end(message: str, reason: Reason | None = None) -> None:
    """Leave the cause of a failure where `kubectl describe pod` shows it; the operator reads the reason in front."""
    if in_pod():
        front = b"" if reason is None else f"{reason}: ".encode()
        with contextlib.suppress(OSError):
            TERMINATION_LOG.write_bytes(front + message.encode()[len(front) - _TERMINATION_BYTES :])


def count_gpus() -> int:
    """GPUs that this process may use: what the environment allows of the devices that are there."""
    devices = len(list(Path("/dev").glob("nvidia[0-9]*")))
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    return devices if visible is None else min(devices, len([name for name in visible.split(",") if name.strip()]))
