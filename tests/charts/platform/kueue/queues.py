"""Values for the tests of the queues."""

from __future__ import annotations

from tests.charts.rendering import Object

H100: Object = {
    "name": "h100",
    "nodeLabels": {"nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3"},
    "quota": {"nvidia.com/gpu": 64, "cpu": 1000, "memory": "8Ti"},
}
SPOT: Object = {
    "name": "spot",
    "tolerations": [{"key": "spot", "operator": "Exists"}],
    "quota": {"memory": 0, "nvidia.com/gpu": 16, "cpu": 1.5},
}


def values(**more: object) -> Object:
    """Both kinds of nodes, and a queue for one namespace."""
    return {"kueue": {"enabled": True, "flavors": [H100, SPOT], "localQueues": {"team-a": "gpt-run"}, **more}}
