"""templates/dcgm-counters.yaml: what dcgm-exporter collects."""

from __future__ import annotations

import csv
import re

import pytest

from tests.charts.dashboards.names import dcgm
from tests.charts.rendering import Chart, Object


def counters(platform: Chart, **values: object) -> Object:
    name = str(values.get("name", "gpt-run-dcgm-counters"))
    return platform.one("ConfigMap", name, {"dcgmCounters": {"enabled": True, **values}})


def test_default_is_none(platform: Chart) -> None:
    assert "ConfigMap/gpt-run-dcgm-counters" not in platform.kinds()


def test_switched_has_a_key_for_either_way_to_read_it(platform: Chart) -> None:
    node = counters(platform)
    text = (platform.path / "files" / "dcgm-counters.csv").read_text()
    assert node["data"] == {"dcgm-metrics.csv": text, "metrics": text}
    placed = counters(platform, name="counters", namespace="gpu-operator")
    assert placed["metadata"]["namespace"] == "gpu-operator"


def test_switched_lines_are_such_as_the_exporter_takes(platform: Chart) -> None:
    """Three fields each, a type that it knows, no name twice; anything else keeps it from starting."""
    text = counters(platform)["data"]["metrics"]
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    fields = [[part.strip() for part in record] for record in csv.reader(lines)]
    assert {len(record) for record in fields} == {3}
    assert {kind for _, kind, _ in fields} <= {"gauge", "counter", "label"}
    names = [name for name, _, _ in fields]
    assert len(set(names)) == len(names)
    assert all(re.fullmatch(r"DCGM_(FI|EXP)_[A-Z0-9_]+", name) for name in names)


@pytest.mark.parametrize(
    "part",
    [
        "SM_ACTIVE",
        "TENSOR_ACTIVE",
        "DRAM_ACTIVE",
        "XID_ERRORS",
        "NVLINK",
        "PCIE",
        "POWER",
        "TEMP",
        "FB_USED",
        "ECC",
        "CLOCK_EVENTS",
    ],
)
def test_switched_collects_what_panels_and_alerts_need(part: str) -> None:
    assert [name for name in dcgm() if part in name]


@pytest.mark.parametrize("values", [{"name": "Counters"}, {"name": ""}, {"namespace": "a b"}])
def test_refused(platform: Chart, values: Object) -> None:
    assert f"/dcgmCounters/{next(iter(values))}" in platform.refusal({"dcgmCounters": values})
