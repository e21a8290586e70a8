"""templates/resourcequota.yaml of the platform."""

from __future__ import annotations

import pytest

from tests.charts.rendering import Chart, Object


def test_default_is_none(platform: Chart) -> None:
    assert not [name for name in platform.kinds() if name.startswith("ResourceQuota/")]


def test_switched(platform: Chart) -> None:
    hard = {"requests.nvidia.com/gpu": 64, "requests.cpu": 1.5, "requests.memory": "1Ti", "pods": 10_000_000}
    made = platform.one("ResourceQuota", "demo", {"quotas": {"team-a": hard}})
    assert made["metadata"]["namespace"] == "team-a"
    assert made["spec"]["hard"] == {
        "requests.nvidia.com/gpu": "64",
        "requests.cpu": "1.5",
        "requests.memory": "1Ti",
        "pods": "10000000",
    }


@pytest.mark.parametrize("values", [{"Team A": {"pods": 1}}, {"team-a": {}}, {"team-a": {"pods": [1]}}, {"team-a": 8}])
def test_refused(platform: Chart, values: Object) -> None:
    assert "/quotas" in platform.refusal({"quotas": values})
