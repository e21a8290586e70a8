"""Every query of every panel on a real Prometheus, and the pictures that are drawn of its answers."""

from __future__ import annotations

import json
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from matplotlib.image import imread

from charts.generator.pictures.__main__ import FOLDER, variables
from charts.generator.pictures.draw import picture
from charts.generator.pictures.prometheus import Prometheus, Span
from tests.charts.dashboards import recording
from tests.integration.servers import free_port
from tests.tools.prometheus import prometheus_programs

SPAN = Span(recording.SINCE, recording.UNTIL, recording.SCRAPE_SECONDS)
CHOSEN = ["run=demo", "run_a=demo", "run_b=other"]
BOARDS: dict[str, Any] = {file.stem: json.loads(file.read_text()) for file in sorted(FOLDER.glob("*.json"))}
_READY_SECONDS = 30


@contextmanager
def prometheus(folder: Path, text: str) -> Iterator[str]:
    """The address of a Prometheus that has recorded this."""
    program = prometheus_programs().prometheus
    recording.write(folder, text)
    (folder / "prometheus.yml").write_text("scrape_configs: []\n")
    address = f"127.0.0.1:{free_port()}"
    command = [str(program), f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data"]
    command += ["--storage.tsdb.retention.time=100y", f"--web.listen-address={address}"]
    with (folder / "log").open("wb") as log, subprocess.Popen(command, stdout=log, stderr=log) as server:
        try:
            wait_until_ready(f"http://{address}/-/ready")
            yield f"http://{address}"
        finally:
            server.terminate()


def wait_until_ready(url: str) -> None:
    end = time.monotonic() + _READY_SECONDS
    while True:
        try:
            with urllib.request.urlopen(url):
                return
        except OSError:
            assert time.monotonic() < end, "Prometheus did not start"
            time.sleep(0.1)


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with prometheus(tmp_path_factory.mktemp("prometheus"), recording.openmetrics()) as url:
        yield url


@pytest.fixture(scope="module")
def without_exporters(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    text = recording.openmetrics(exporters=False)
    with prometheus(tmp_path_factory.mktemp("prometheus"), text) as url:
        yield url


def source(url: str, uid: str) -> Prometheus:
    return Prometheus(url, SPAN, variables(BOARDS[uid], CHOSEN))


@pytest.mark.parametrize("uid", BOARDS)
def test_every_query_of_every_panel_gives_data(recorded: str, uid: str) -> None:
    asked = source(recorded, uid)
    for panel in BOARDS[uid]["panels"]:
        for target in panel.get("targets", []):
            assert any(item.points for item in asked.series(target, "")), f"{panel['title']}: {target['expr']}"


@pytest.mark.parametrize("uid", BOARDS)
def test_a_picture_shows_every_panel(recorded: str, uid: str, tmp_path: Path) -> None:
    file = tmp_path / "picture.png"
    assert picture(BOARDS[uid], source(recorded, uid), file) == []
    pixels = imread(file)
    assert pixels.shape[1] == 1600
    assert (pixels[:, :, :3] < 0.5).any(axis=2).mean() > 0.005, "almost nothing is drawn"


@pytest.mark.parametrize("uid", BOARDS)
def test_without_exporters_only_what_says_so_is_empty(without_exporters: str, uid: str, tmp_path: Path) -> None:
    empty = picture(BOARDS[uid], source(without_exporters, uid), tmp_path / "picture.svg")
    needs = [panel["title"] for panel in BOARDS[uid]["panels"] if "Needs dcgm-exporter" in panel.get("description", "")]
    assert sorted(empty) == sorted(needs)


@pytest.mark.parametrize(
    ("title", "nodes"),
    [("Utilization", {"node-a": "01 2", "node-b": "01"}), ("SM activity", {"node-a": "01 2"})],
)
def test_an_exporters_node_is_not_shown_twice(recorded: str, title: str, nodes: dict[str, str]) -> None:
    uid = "gpt-run-hardware"
    panels = [panel for panel in BOARDS[uid]["panels"] if panel["title"] == title and panel["type"] == "timeseries"]
    (panel,) = panels
    found = source(recorded, uid).series(panel["targets"][0], "")
    wanted = {(node, gpu) for node, gpus in nodes.items() for gpu in gpus.replace(" ", "")}
    assert {(item.labels["node"], item.labels["gpu"]) for item in found} == wanted
    assert len(found) == len(wanted)


def test_marks_are_few_and_at_the_right_moments(recorded: str) -> None:
    """One attempt, a scale down and one up, and a checkpoint every ten minutes."""
    asked = source(recorded, "gpt-run-run")
    marks = {item["name"]: item for item in BOARDS["gpt-run-run"]["annotations"]["list"] if "expr" in item}
    moments = {
        name: [moment for _, points in asked.ranged(mark["expr"]) for moment, value in points if value > 0]
        for name, mark in marks.items()
    }
    assert len(moments["Attempts"]) == 1
    assert len(moments["Scale"]) == 2
    saves = {value / 1000 for _, points in asked.ranged(marks["Checkpoints"]["expr"]) for _, value in points}
    assert len(saves) == len(range(recording.SINCE + 1800, recording.UNTIL + 1, 600))


def test_a_query_that_prometheus_refuses_is_named(recorded: str) -> None:
    with pytest.raises(OSError, match=r"sum\(: .*parse error"):
        source(recorded, "gpt-run-run").instant("sum(")
