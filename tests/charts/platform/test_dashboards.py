"""templates/dashboards.yaml of the platform."""

from __future__ import annotations

import pytest

from charts.generator.dashboards.files import BOARDS
from tests.charts.rendering import Chart, Object, find


def config_maps(platform: Chart, values: Object | None = None) -> list[Object]:
    return [node for node in platform.render(values) if node["kind"] == "ConfigMap"]


def test_default_is_one_config_map_for_each_dashboard(platform: Chart) -> None:
    found = config_maps(platform)
    assert sorted(key for node in found for key in node["data"]) == sorted(f"{board.uid}.json" for board in BOARDS)
    # Kubernetes takes no more, annotations of appliers left out.
    assert all(len(text) < 250_000 for node in found for text in node["data"].values())


def test_default_text_is_the_files_own(platform: Chart) -> None:
    for node in config_maps(platform):
        for name, text in node["data"].items():
            assert text == (platform.path / "files" / "dashboards" / name).read_text()


def test_switched(platform: Chart) -> None:
    values = {"namespace": "monitoring", "labels": {"team": "ml"}, "folder": "Training"}
    node = find(platform.render({"dashboards": values}), "ConfigMap", "demo-fleet-dashboard")
    assert node["metadata"]["namespace"] == "monitoring"
    assert node["metadata"]["annotations"] == {"grafana_folder": "Training"}
    assert node["metadata"]["labels"].items() >= {"team": "ml", "grafana_dashboard": "1"}.items()
    assert config_maps(platform, {"dashboards": {"enabled": False}}) == []


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"labels": {"grafana_dashboard": None}}, "dashboards.labels: empty"),
        ({"namespace": "Monitoring"}, "/dashboards/namespace"),
        ({"folders": "a"}, "additional properties 'folders'"),
    ],
)
def test_refused(platform: Chart, values: Object, words: str) -> None:
    assert words in platform.refusal({"dashboards": values})
