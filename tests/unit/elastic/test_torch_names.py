"""The launcher needs no private name of torch; the few that a worker's warm-up uses are listed here."""

from __future__ import annotations

import ast
import importlib
from pathlib import Path

import trainer

ROOT = Path(trainer.__file__).parent
# Imported early, because torch imports it itself when the first optimizer is made.
PRIVATE = {"torch._dynamo"}


def torch_names(file: Path) -> set[str]:
    """Modules of torch that a file imports, and names it takes from them."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return {name for name in found if name.split(".")[0] == "torch"}


def test_private_names_are_those_listed() -> None:
    files = [*(ROOT / "elastic").glob("*.py"), ROOT / "train" / "warm.py", ROOT / "parallel" / "compile.py"]
    used = set().union(*(torch_names(file) for file in files))
    assert {name for name in used if "._" in name} == PRIVATE
    for name in PRIVATE:
        importlib.import_module(name)


def test_the_launcher_itself_imports_no_torch() -> None:
    for name in ("launcher", "coordinator", "server", "link", "workers", "forks", "rounds", "roster"):
        top = ast.parse((ROOT / "elastic" / f"{name}.py").read_text(encoding="utf-8")).body
        modules = {node.module for node in top if isinstance(node, ast.ImportFrom)}
        assert not any((module or "").startswith("torch") for module in modules), name
