"""templates/kueue/localqueue.yaml of the platform."""

from __future__ import annotations

from tests.charts.platform.kueue.queues import values
from tests.charts.rendering import Chart


def test_default_is_none(platform: Chart) -> None:
    assert "LocalQueue/gpt-run" not in platform.kinds()


def test_switched(platform: Chart) -> None:
    more = values(localQueues={"team-a": "runs", "team-b": "more"}, clusterQueue="ml")
    for namespace, name in (("team-a", "runs"), ("team-b", "more")):
        made = platform.one("LocalQueue", name, more)
        assert (made["metadata"]["namespace"], made["spec"]) == (namespace, {"clusterQueue": "ml"})


def test_refused(platform: Chart) -> None:
    assert "/kueue/localQueues" in platform.refusal(values(localQueues={"Team A": "runs"}))
