"""No clock of a node is compared with another's: what decides about membership reads none of the wall clock."""

from __future__ import annotations

import ast
from pathlib import Path

import trainer

# A claim's time is read where an hour's failures are counted; a few seconds of skew change nothing there.
WALL_CLOCKS = {"time.time", "time.time_ns", "datetime.now", "datetime.utcnow", "datetime.today"}


def test_the_elastic_protocol_reads_no_wall_clock() -> None:
    files = {file.name: file for file in (Path(trainer.__file__).parent / "elastic").glob("*.py")}
    # Times in /status are for whoever reads it: nothing here does.
    del files["status.py"]
    for file in files.values():
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                assert f"{node.value.id}.{node.attr}" not in WALL_CLOCKS, f"{file.name}:{node.lineno}"


def test_decisions_read_no_clock_at_all() -> None:
    for name in ("rounds", "roster"):
        tree = ast.parse((Path(trainer.__file__).parent / "elastic" / f"{name}.py").read_text(encoding="utf-8"))
        imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
        assert not imported & {"time", "datetime", "socket", "asyncio", "random", "uuid"}, name
