from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from operators.room import (
    Amounts,
    Place,
    Shape,
    Taint,
    Toleration,
    amounts_of,
    parse_quantity,
    requests_of,
    room,
    shape_of,
)

SHAPE = Shape(requests=amounts_of({"nvidia.com/gpu": "2", "cpu": "4"}))
PLACE = Place(ready=True, allocatable=amounts_of({"nvidia.com/gpu": "8", "cpu": "64", "pods": "110"}))
TAINT = Taint("nvidia.com/gpu", "present", "NoSchedule")


@pytest.mark.parametrize(
    ("text", "thousandths"),
    [
        ("1", 1000),
        ("500m", 500),
        ("0.1", 100),
        ("1Ki", 1_024_000),
        ("2Gi", 2 * 2**30 * 1000),
        ("1k", 1_000_000),
        ("1E", 10**21),
        ("1E3", 1_000_000),
        ("1e3", 1_000_000),
        ("100n", 1),
    ],
)
def test_quantities(text: str, thousandths: int) -> None:
    assert parse_quantity(text) == thousandths


@pytest.mark.parametrize("text", ["", "one", "1Q", "Gi"])
def test_no_quantities(text: str) -> None:
    with pytest.raises(ValueError, match="is no quantity"):
        parse_quantity(text)


def taken(*gpus: int) -> list[Amounts]:
    return [amounts_of({"nvidia.com/gpu": str(count)}) for count in gpus]


@pytest.mark.parametrize(
    ("shape", "place", "pods", "expected"),
    [
        (SHAPE, PLACE, [], 4),
        (SHAPE, PLACE, taken(2, 1), 2),
        (SHAPE, PLACE, taken(8), 0),
        (SHAPE, PLACE, taken(9), 0),
        (SHAPE, replace(PLACE, ready=False), [], 0),
        (SHAPE, replace(PLACE, unschedulable=True), [], 0),
        (SHAPE, replace(PLACE, taints=(TAINT,)), [], 0),
        (replace(SHAPE, tolerations=(Toleration("nvidia.com/gpu", "Exists"),)), replace(PLACE, taints=(TAINT,)), [], 4),
        (
            replace(SHAPE, tolerations=(Toleration("nvidia.com/gpu", "Equal", "absent"),)),
            replace(PLACE, taints=(TAINT,)),
            [],
            0,
        ),
        (SHAPE, replace(PLACE, taints=(replace(TAINT, effect="PreferNoSchedule"),)), [], 4),
        (replace(SHAPE, selector=(("gpu", "h100"),)), PLACE, [], 0),
        (replace(SHAPE, selector=(("gpu", "h100"),)), replace(PLACE, labels=(("gpu", "h100"),)), [], 4),
        (SHAPE, replace(PLACE, allocatable=amounts_of({"nvidia.com/gpu": "8", "cpu": "64", "pods": "3"})), taken(0), 2),
        (SHAPE, replace(PLACE, allocatable=amounts_of({"cpu": "64", "pods": "3"})), [], 0),
    ],
)
def test_one_node(shape: Shape, place: Place, pods: list[Amounts], expected: int) -> None:
    assert room(shape, [(place, pods)]) == expected


@pytest.mark.parametrize(
    ("operator", "values", "label", "holds"),
    [
        ("In", ["a", "b"], "a", True),
        ("In", ["a"], None, False),
        ("NotIn", ["a"], "b", True),
        ("NotIn", ["a"], None, True),
        ("Exists", [], "x", True),
        ("DoesNotExist", [], None, True),
        ("DoesNotExist", [], "x", False),
        ("Gt", ["3"], "4", True),
        ("Lt", ["3"], "4", False),
        ("Gt", ["3"], None, False),
        ("Gt", ["3"], "²", False),
        ("Gt", ["3"], "--4", False),
        ("Unheard", ["3"], "3", False),
    ],
)
def test_node_affinity(operator: str, values: list[str], label: str | None, holds: bool) -> None:
    term = {"matchExpressions": [{"key": "zone", "operator": operator, "values": values}]}
    required = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}}
    shape = shape_of({"affinity": {"nodeAffinity": required}, "containers": []})
    place = replace(PLACE, labels=(("zone", label),) if label is not None else ())
    assert (room(shape, [(place, [])]) or 0) == (110 if holds else 0)


@pytest.mark.parametrize(
    "spec",
    [
        {
            "affinity": {
                "podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [{"topologyKey": "host"}]}
            }
        },
        {"topologySpreadConstraints": [{"maxSkew": 1, "topologyKey": "zone"}]},
        {"containers": [{"ports": [{"hostPort": 80}]}]},
    ],
)
def test_what_is_not_understood_is_not_guessed(spec: dict[str, Any]) -> None:
    assert room(shape_of(spec), [(PLACE, [])]) is None
    soft = {"topologySpreadConstraints": [{"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "ScheduleAnyway"}]}
    assert room(shape_of(soft), [(PLACE, [])]) == 110


def test_requests_of_a_pod() -> None:
    spec = {
        "initContainers": [
            {"resources": {"requests": {"cpu": "3"}}},
            {"restartPolicy": "Always", "resources": {"requests": {"cpu": "500m"}}},
        ],
        "containers": [{"resources": {"requests": {"cpu": "1"}}}, {"resources": {"limits": {"nvidia.com/gpu": 1}}}],
        "overhead": {"cpu": "100m"},
    }
    assert dict(requests_of(spec)) == {"cpu": 3100, "nvidia.com/gpu": 1000}


@given(
    nodes=st.lists(st.tuples(st.integers(0, 16), st.lists(st.integers(0, 8), max_size=4)), max_size=5),
    wanted=st.integers(1, 8),
)
def test_what_is_said_to_fit_fits_and_no_more(nodes: list[tuple[int, list[int]]], wanted: int) -> None:
    shape = Shape(requests=amounts_of({"gpu": str(wanted)}))
    places = [
        (
            Place(True, allocatable=amounts_of({"gpu": str(gpus), "pods": "110"})),
            [amounts_of({"gpu": str(n)}) for n in pods],
        )
        for gpus, pods in nodes
    ]
    placed = 0
    for gpus, pods in nodes:
        free = gpus - sum(pods)
        while free >= wanted:
            free, placed = free - wanted, placed + 1
    assert room(shape, places) == placed
