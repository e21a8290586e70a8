"""Undocumented values: an option, key, metric or make target that no sentence explains.

The keys of run files, pipelines, evaluations, TrainingRuns and charts, and the metrics, stand in tables of generated
pages, which `docs.generate --check` and `charts.generator --check` hold complete; here their last column is read.
"""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator
from typing import Any

from docs.check import gpt_run
from docs.check.pages import Finding, Tree

_EMPTY_WORDS = frozenset({"a", "an", "the", "of", "this", "its", "is"})


def check_documented(tree: Tree) -> Iterator[Finding]:
    """Whatever has no text, or one that only repeats its name."""
    yield from _check_tables(tree)
    for command in gpt_run.commands():
        yield from _check_command(tree, command)
    yield from _check_scripts(tree)
    yield from _check_targets(tree)


def says_nothing(name: str, text: str) -> bool:
    """Is the text empty, or made of the words of the name alone?"""
    words = set(re.findall(r"[a-z]+", text.lower()))
    spoken = re.sub(r"([a-z])([A-Z])", r"\1 \2", re.split(r"[.`\[\]]+", name.strip("`"))[-1]).lower()
    return words - _EMPTY_WORDS <= set(re.findall(r"[a-z]+", spoken))


def _check_tables(tree: Tree) -> Iterator[Finding]:
    for page in tree.pages.values():
        for row in page.rows:
            if row.head[-1] == "meaning" and says_nothing(row.cells[0], row.cells[-1]):
                yield Finding(
                    page.path,
                    row.line,
                    f"{row.cells[0]} has the meaning `{row.cells[-1]}`",
                    "a sentence that says more than the name",
                    "describe it where it is defined (a field's docstring, a comment of values.yaml); `make generate`",
                )


def _check_command(tree: Tree, command: Any) -> Iterator[Finding]:
    if command.callback is None:
        return
    source = inspect.getsourcefile(command.callback) or ""
    file = source.removeprefix(f"{tree.root}/")
    line = inspect.getsourcelines(command.callback)[1]
    texts = {f"command {command.name}": command.help}
    texts |= {f"{param.opts[0]} of {command.name}": param.help for param in command.params if not param.hidden}
    for name, text in texts.items():
        if says_nothing(name.split(" of ")[0], text or ""):
            yield Finding(file, line, f"{name} has the help `{text or ''}`", "a sentence", "give it `help=`")


def _check_scripts(tree: Tree) -> Iterator[Finding]:
    for file in sorted(file for file in tree.files if file.endswith(".py")):
        text = tree.text(file)
        # Parsing every file of the project takes a second.
        for node in ast.walk(ast.parse(text)) if ".add_argument(" in text else ():
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
                continue
            if node.func.attr == "add_argument" and all(keyword.arg != "help" for keyword in node.keywords):
                name = ast.unparse(node.args[0]) if node.args else "an argument"
                yield Finding(file, node.lineno, f"{name} has no help", "`help=` with a sentence", "say what it does")


def _check_targets(tree: Tree) -> Iterator[Finding]:
    for number, line in enumerate(tree.text("Makefile").splitlines(), start=1):
        target = re.match(r"([a-z][a-z-]*):(?!=)", line)
        if target and not re.search(r"## \S", line):
            expected = "`##` and what it does, which `make help` prints"
            yield Finding("Makefile", number, f"target {target[1]} has no comment", expected, "write it behind the `:`")
