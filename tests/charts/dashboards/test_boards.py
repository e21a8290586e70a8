"""The dashboards' form: every panel explained, in its place, and of Grafana's own types."""

from __future__ import annotations

import json
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard

from charts.generator.__main__ import chart_files, out_of_date
from charts.generator.pictures.units import UNITS
from charts.generator.values import CHART, PLATFORM, ROOT, home

FILES = sorted((PLATFORM / "files" / "dashboards").glob("*.json"))
RUNBOOKS = ROOT / "docs" / "runbooks"
BOARDS: dict[str, Any] = {file.stem: json.loads(file.read_text()) for file in FILES}
PANELS = {
    f"{uid}: {panel['title']} ({panel['id']})": panel
    for uid, board in BOARDS.items()
    for panel in board["panels"]
    if panel["type"] != "row"
}


def test_files_are_up_to_date_and_the_same_in_both_charts() -> None:
    files = {path: text for path, text in chart_files().items() if path.parent.name == "dashboards"}
    assert out_of_date(files) == []
    on_disk = {path for chart in (CHART, PLATFORM) for path in (chart / "files" / "dashboards").iterdir()}
    assert on_disk == set(files)


@pytest.mark.parametrize("panel", PANELS.values(), ids=PANELS)
def test_every_panel_is_explained(panel: Any) -> None:
    assert len(panel["title"]) > 2
    assert panel["description"].endswith(".")
    assert len(panel["description"]) > 10
    defaults = panel["fieldConfig"]["defaults"]
    assert defaults["unit"] in UNITS or defaults["unit"].startswith("si:")
    assert defaults["thresholds"]["steps"][0]["value"] is None
    assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
    refs = [target["refId"] for target in panel["targets"]]
    assert len(set(refs)) == len(refs) > 0


@pytest.mark.parametrize("uid", BOARDS)
def test_panels_lie_side_by_side(uid: str) -> None:
    panels = BOARDS[uid]["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    cells = {panel["id"]: covered(panel["gridPos"]) for panel in panels}
    assert not [pair for pair in combinations(cells, 2) if cells[pair[0]] & cells[pair[1]]]
    assert all(0 <= x < 24 for places in cells.values() for x, _ in places)


def covered(place: dict[str, int]) -> set[tuple[int, int]]:
    x, y, w, h = (place[key] for key in "xywh")
    return {(column, row) for column in range(x, x + w) for row in range(y, y + h)}


@pytest.mark.parametrize("uid", BOARDS)
def test_grafanas_own_types_lose_nothing_of_it(uid: str) -> None:
    """Read into the types that Grafana generates from its schema, and written again: a key they lack would be gone."""
    register_default_plugins()
    text = FILES[sorted(BOARDS).index(uid)].read_text()
    again = json.loads(json.dumps(Dashboard.from_json(json.loads(text)), cls=JSONEncoder))
    assert again == json.loads(text)


def test_those_types_notice_an_unknown_key() -> None:
    """The test above can fail, in a panel's options as in its frame."""
    register_default_plugins()
    for place in (lambda panel: panel, lambda panel: panel["options"], lambda panel: panel["targets"][0]):
        board = json.loads(FILES[0].read_text())
        place(next(panel for panel in board["panels"] if panel["type"] == "stat"))["colour"] = 1
        assert json.loads(json.dumps(Dashboard.from_json(board), cls=JSONEncoder)) != board


@pytest.mark.parametrize("uid", BOARDS)
def test_uid_and_file_are_the_same_name(uid: str) -> None:
    assert BOARDS[uid]["uid"] == uid
    assert len(uid) <= 40
    assert BOARDS[uid]["tags"] == ["gpt-run"]


def test_a_run_is_marked_by_attempts_sizes_and_checkpoints() -> None:
    marks = {item["name"] for item in BOARDS["gpt-run-run"]["annotations"]["list"]}
    assert marks >= {"Attempts", "Scale", "Checkpoints"}


def test_runbooks_that_panels_link_to_exist() -> None:
    names = {linked(link["url"]) for panel in PANELS.values() for link in panel.get("links", [])}
    assert len(names) > 5
    if not RUNBOOKS.is_dir():
        pytest.skip("docs/runbooks is not there yet")
    assert [name for name in sorted(names) if not (RUNBOOKS / f"{name}.md").is_file()] == []


def linked(url: str) -> str:
    start = f"{home()}/blob/main/docs/runbooks/"
    assert url.startswith(start), url
    return Path(url.removeprefix(start)).stem
