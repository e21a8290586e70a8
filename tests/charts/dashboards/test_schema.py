"""The dashboards have the form that Grafana itself publishes: its TypeScript types, checked by the compiler."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

from charts.generator.values import PLATFORM
from tests.integration.servers import npm_tool

FILES = sorted((PLATFORM / "files" / "dashboards").glob("*.json"))
TYPES = Path(__file__).with_name("schema.ts")
OPTIONS = ["--noEmit", "--strict", "--skipLibCheck", "--moduleResolution", "node", "--target", "es2022"]


def complaints(folder: Path, boards: list[dict[str, Any]]) -> list[str]:
    """What the TypeScript compiler finds wrong with dashboards."""
    tools = npm_tool()
    (folder / "node_modules").symlink_to(tools / "node_modules")
    lines = [TYPES.read_text()]
    for board in boards:
        lines.append(f"export const board_{len(lines)}: Board = {literal(board, 'panels')};")
        for panel in board["panels"]:
            lines.append(f"export const panel_{len(lines)}: {type_of(panel)} = {literal(panel)};")
    (folder / "boards.ts").write_text("\n".join(lines))
    command = ["node", str(tools / "node_modules" / "typescript" / "bin" / "tsc"), *OPTIONS, "boards.ts"]
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert result.returncode == 0 or result.stdout, result.stderr
    return result.stdout.splitlines()


def literal(value: dict[str, Any], *without: str) -> str:
    return json.dumps({key: content for key, content in value.items() if key not in without})


def type_of(panel: dict[str, Any]) -> str:
    """Name of its type in schema.ts."""
    kind = str(panel["type"])
    return "Row" if kind == "row" else "".join(part.capitalize() for part in kind.split("-")) + "Panel"


def test_all_dashboards(tmp_path: Path) -> None:
    boards = [json.loads(file.read_text()) for file in FILES]
    assert sum(len(board["panels"]) for board in boards) > len(boards)
    assert complaints(tmp_path, boards) == []


def unknown_option(board: dict[str, Any]) -> None:
    first_of(board, "timeseries")["options"]["legnd"] = {}


def wrong_value(board: dict[str, Any]) -> None:
    first_of(board, "timeseries")["fieldConfig"]["defaults"]["custom"]["drawStyle"] = "dotted"


def number_as_text(board: dict[str, Any]) -> None:
    first_of(board, "stat")["gridPos"]["w"] = "6"


def wrong_refresh(board: dict[str, Any]) -> None:
    board["refresh"] = 30


def first_of(board: dict[str, Any], kind: str) -> dict[str, Any]:
    return next(panel for panel in board["panels"] if panel["type"] == kind)


def test_what_is_wrong_is_found(tmp_path: Path) -> None:
    boards = []
    for change in (unknown_option, wrong_value, number_as_text, wrong_refresh):
        boards.append(next(board for file in FILES if (board := json.loads(file.read_text()))["uid"].endswith("-run")))
        change(boards[-1])
    found = complaints(tmp_path, boards)
    assert len(found) == len(boards)
    assert all(word in text for word, text in zip(["legnd", "dotted", "'string'", "'number'"], found, strict=True))
