"""templates/kueue/resourceflavor.yaml of the platform."""

from __future__ import annotations

import pytest

from tests.charts.platform.kueue.queues import H100, SPOT, values
from tests.charts.rendering import Chart, Object


def test_default_is_none(platform: Chart) -> None:
    assert not [name for name in platform.kinds() if "Flavor" in name or "Queue" in name]


def test_switched(platform: Chart) -> None:
    h100, spot = (platform.one("ResourceFlavor", name, values())["spec"] for name in ("h100", "spot"))
    assert h100 == {"nodeLabels": H100["nodeLabels"]}
    assert spot == {"tolerations": SPOT["tolerations"]}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"quota": {}}, "/kueue/flavors/0/quota"),
        ({"name": "H100"}, "/kueue/flavors/0/name"),
        ({"tolerations": [{"key": "a", "operater": "Exists"}]}, "operater"),
        ({"labels": {}}, "labels"),
    ],
)
def test_refused(platform: Chart, change: Object, words: str) -> None:
    assert words in platform.refusal(values(flavors=[H100 | change]))
