"""templates/priorityclasses.yaml of the platform."""

from __future__ import annotations

import pytest

from tests.charts.rendering import Chart, Object


def test_default_is_none(platform: Chart) -> None:
    assert not [name for name in platform.kinds() if name.startswith("PriorityClass/")]


def test_switched(platform: Chart) -> None:
    values = {"priorityClasses": {"enabled": True}}
    runs, spare = (platform.one("PriorityClass", name, values) for name in ("gpt-run", "gpt-run-spare"))
    assert (runs["value"], runs["preemptionPolicy"]) == (1000, "PreemptLowerPriority")
    assert (spare["value"], spare["preemptionPolicy"]) == (-1000, "Never")
    assert "globalDefault" not in runs | spare


def test_switched_classes(platform: Chart) -> None:
    own = [{"name": "urgent", "value": 1_000_000_000, "description": "Before a deadline."}]
    values = {"priorityClasses": {"enabled": True, "classes": own}}
    assert platform.one("PriorityClass", "urgent", values)["value"] == 1_000_000_000
    assert "PriorityClass/gpt-run" not in platform.kinds(values)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"value": 2_000_000_000}, "/priorityClasses/classes/0/value"),
        ({"name": "system-mine"}, "/priorityClasses/classes/0/name"),
        ({"preemptionPolicy": "Sometimes"}, "/priorityClasses/classes/0/preemptionPolicy"),
        ({"globalDefault": True}, "globalDefault"),
    ],
)
def test_refused(platform: Chart, change: Object, words: str) -> None:
    own = {"name": "mine", "value": 1, "description": "x"} | change
    assert words in platform.refusal({"priorityClasses": {"enabled": True, "classes": [own]}})
