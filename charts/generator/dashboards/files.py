"""The dashboards as files of the charts: the same JSON in each, from one place."""

from __future__ import annotations

from charts.generator.dashboards import compare, fleet, hardware, run
from charts.generator.dashboards.board import Board, dashboard_text

BOARDS: tuple[Board, ...] = (run.board(), fleet.board(), compare.board(), hardware.board())


def dashboard_files() -> dict[str, str]:
    """Path inside a chart -> text. Grafana's sidecar puts files of all ConfigMaps into one folder, by these names."""
    return {f"files/dashboards/{board.uid}.json": dashboard_text(board) for board in BOARDS}
