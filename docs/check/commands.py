"""Stale commands: what the pages tell a reader to type, against the programs, files and keys of this tree.

Looked at are `gpt-run`, `make`, `python -m` and `python FILE` of our own files, `pytest`, and `helm` with a chart of
ours. A code span may be a synopsis (`[--nproc N]`, `logs|scale`) or the beginning of a command; a line of a block is
a whole one.
"""

from __future__ import annotations

import ast
import itertools
import json
import re
import shlex
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

from docs.check import gpt_run
from docs.check.keys import assigned, missing_key
from docs.check.pages import Code, Finding, Tree
from trainer.complaints import nearest

# What pages say of programs that are not ours: helm, kubectl, ray, dcgm-exporter.
_OTHERS_OPTIONS = {"--set-json", "--force", "--include-dashboard", "--configmap-data"}
_CHART_SCHEMA = r"charts/[^/]+/values\.schema\.json"
_BLOCKS = ("sh", "text", "")
_ASSIGNMENT = re.compile(r"[A-Z_]+=")
_COMMENT = re.compile(r"(?:^|\s)#(?:\s.*)?$")


@dataclass(frozen=True)
class Complaint:
    """What is wrong with a command; where it stands is added by `check_commands`."""

    found: str
    expected: str
    fix: str = "correct the command"


Words = list[str]
Check = Callable[[Tree, Words], Iterator[Complaint]]


def check_commands(tree: Tree) -> Iterator[Finding]:
    """Every command of every page; each complaint about one once."""
    for page in tree.pages.values():
        for code in page.codes:
            for line, words in commands(code):
                # Decisions also name options that were refused.
                skipped = words[0].startswith("--") and "/decisions/" in page.path
                for complaint in () if skipped else dict.fromkeys(_complaints(tree, words, code)):
                    yield Finding(page.path, line, complaint.found, complaint.expected, complaint.fix)


def _complaints(tree: Tree, words: Words, code: Code) -> Iterator[Complaint]:
    program = words[0].removeprefix(".venv/bin/")
    if program == "gpt-run":
        for found, expected in gpt_run.problems(tree, words[1:], whole=code.kind is not None):
            yield Complaint(found, expected)
    elif program.startswith("--") and code.kind is None:
        yield from _bare(tree, words)
    elif program in _CHECKS:
        yield from _CHECKS[program](tree, words)


def commands(code: Code) -> Iterator[tuple[int, Words]]:
    """The commands in a piece of code, each with the line it begins in, as words without redirections and settings."""
    if code.kind is None:
        yield from ((code.line, words) for words in _synopsis(code.text))
    elif code.kind in _BLOCKS:
        line = code.line
        for logical in re.split(r"(?<!\\)\n", code.text):
            yield from ((line, words) for words in _pipeline(logical.replace("\\\n", " ")))
            line += logical.count("\n") + 1


def _pipeline(text: str) -> Iterator[Words]:
    lexer = shlex.shlex(_COMMENT.sub("", text), posix=True, punctuation_chars=True)
    lexer.whitespace_split, lexer.commenters = True, ""
    try:
        words = list(lexer)
    except ValueError:  # an apostrophe: prose, or what a program printed
        return
    for is_operator, group in itertools.groupby(words, lambda word: set(word) <= set("();<>|&")):
        command = list(itertools.dropwhile(lambda word: _ASSIGNMENT.match(word) is not None, group))
        if command and not is_operator:
            yield command


def _synopsis(text: str) -> Iterator[Words]:
    """`a x|y [--b] [--c]` as `a x`, `a y`, `a x --b`, `a x --c`."""
    options = re.findall(r"(?<!\S)\[([^\]]*)\](?!\S)", text)
    bare = re.sub(r"(?<!\S)\[[^\]]*\](?!\S)", "", text)
    for form in [bare, *(f"{bare} {option}" for option in options)]:
        try:
            words = shlex.split(form)
        except ValueError:
            continue
        words = list(itertools.dropwhile(lambda word: _ASSIGNMENT.match(word) is not None, words))
        if words:
            yield from map(list, itertools.product(*([word] if "=" in word else word.split("|") for word in words)))


def _make(tree: Tree, words: Words) -> Iterator[Complaint]:
    text = tree.text("Makefile")
    targets = re.findall(r"(?m)^([a-z][a-z-]*):", text)
    for word in words[1:]:
        name, assigns, _ = word.partition("=")
        known = re.findall(r"\$\((\w+)\)", text) if assigns else targets
        if name not in known and not name.startswith("-") and (assigns or not word.isupper()):
            what = "a variable" if assigns else "a target"
            yield Complaint(f"make {word}{nearest(name, known)}", f"{what} of the Makefile")


def _python(tree: Tree, words: Words) -> Iterator[Complaint]:
    if words[1:3] == ["-m", "pytest"]:
        yield from _pytest(tree, words[2:])
        return
    module = len(words) > 2 and words[1] == "-m"
    name, rest = (words[2], words[3:]) if module else (" ".join(words[1:2]), words[2:])
    if module:
        path = name.replace(".", "/")
        file = next((file for file in (f"{path}.py", f"{path}/__main__.py") if file in tree.files), None)
        if path.split("/")[0] not in tree.tops:
            return
    else:
        file = name if name in tree.files else None
        if not name.endswith(".py") or name.split("/")[0] not in tree.tops:
            return
    if file is None:
        yield Complaint(f"python {'-m ' if module else ''}{name}", "a module or file of the repository")
        return
    known = _options(tree, file)
    for option in (word.split("=")[0] for word in rest if word.startswith("--")):
        if option not in known | {"--help"}:
            yield Complaint(f"{option} of {name}{nearest(option, known)}", f"an option of {file}")


def _options(tree: Tree, file: str) -> frozenset[str]:
    """Options that a file gives to an argparse parser, or a file of its folder that it imports."""
    folder = file.rpartition("/")[0]
    nodes = list(ast.walk(ast.parse(tree.text(file))))
    own = {
        argument.value
        for node in nodes
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "add_argument"
        for argument in node.args
        if isinstance(argument, ast.Constant) and str(argument.value).startswith("-")
    }
    imported = {
        f"{(node.module or '').replace('.', '/')}.py" for node in nodes if isinstance(node, ast.ImportFrom)
    } & tree.files
    beside = [other for other in imported if other.rpartition("/")[0] == folder and other != file]
    return frozenset(map(str, own)).union(*(_options(tree, other) for other in beside))


def _pytest(tree: Tree, words: Words) -> Iterator[Complaint]:
    for word in words[1:]:
        path, _, node = word.partition("::")
        if path.split("/")[0] not in tree.tops:
            continue
        if not tree.has(path):
            yield Complaint(f"pytest {word}{nearest(path, tree.files)}", "a test file or folder of the repository")
        elif node and path in tree.files:
            # `test_a[case]` and `Class::test_a`: the case is known to pytest alone.
            defined = re.findall(r"(?m)^\s*(?:async )?(?:def|class) (\w+)", tree.text(path))
            for name in node.split("[")[0].split("::"):
                if name not in defined:
                    yield Complaint(f"pytest {word}{nearest(name, defined)}", f"a test of {path}")


def _helm(tree: Tree, words: Words) -> Iterator[Complaint]:
    chart = next((word.rstrip("/") for word in words if word.startswith("charts/") and "." not in word), None)
    if chart is None:
        return
    if f"{chart}/Chart.yaml" not in tree.files:
        yield Complaint(f"helm {words[1]} {chart}", "a chart of the repository")
        return
    schema = _schema(tree.text(f"{chart}/values.schema.json"))
    for key in assigned(words, ("--set", "--set-string", "--set-json", "--set-file")):
        if missing := missing_key(schema, key):
            yield Complaint(f"--set {key}: {chart} has no {missing}", f"a value of {chart}/values.yaml")


def _bare(tree: Tree, words: Words) -> Iterator[Complaint]:
    """An option in prose: one of `gpt-run`; `--set KEY=VALUE` may be for a run file, a pipeline or a chart."""
    known = gpt_run.options() | _OTHERS_OPTIONS
    if (option := words[0].partition("=")[0]) not in known:
        yield Complaint(f"{option}{nearest(option, known)}", "an option of a command of gpt-run")
    charts = [_schema(tree.text(file)) for file in sorted(tree.files) if re.fullmatch(_CHART_SCHEMA, file)]
    for key in assigned(words, ("--set",)):
        if all(missing_key(schema, key) for schema in [*gpt_run.schemas(), *charts]):
            yield Complaint(f"--set {key}", "a key of docs/reference, or a value of a chart")


@cache
def _schema(text: str) -> dict[str, Any]:
    schema: dict[str, Any] = json.loads(text)
    return schema


_CHECKS: dict[str, Check] = {
    "make": _make,
    "python": _python,
    "python3": _python,
    "pytest": _pytest,
    "helm": _helm,
}
