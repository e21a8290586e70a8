"""A `gpt-run` command of a page, read by the program's own parser: commands, options, choices, keys and presets."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from typing import Any

import typer

from docs.check.keys import assigned, missing_key
from docs.check.pages import Tree
from trainer.cli.main import app
from trainer.complaints import nearest
from trainer.config import RunConfig
from trainer.data.prepare.pipeline import ChatPipeline, Pipeline, TokenPipeline

# What the parser raises for anything that it does not take; Typer exports only what comes of it.
_Refused: Any = typer.BadParameter.__mro__[1]
# A value that stands for any: N, MIN:MAX, $port, ...
_PLACEHOLDER = re.compile(r"[A-Z][A-Z:_]*|\$.*|\.\.\.")
# Messages about what a command lacks, which one that is only mentioned may.
_UNFINISHED = ("Missing", "requires an argument")
Problem = tuple[str, str]


@cache
def program() -> Any:
    """The tree of commands."""
    return typer.main.get_command(app)


def commands() -> Iterator[Any]:
    """The program and all its commands, groups before what is in them."""
    left = [program()]
    while left:
        command = left.pop(0)
        left += getattr(command, "commands", {}).values()
        yield command


@cache
def options() -> frozenset[str]:
    """The options of all commands."""
    return frozenset(
        name for command in commands() for param in command.params for name in (*param.opts, *param.secondary_opts)
    )


def problems(tree: Tree, words: list[str], *, whole: bool) -> Iterator[Problem]:
    """What is wrong with `gpt-run WORDS`, and what was expected; unless `whole`, what is missing is left out."""
    command, names = program(), ["gpt-run"]
    rest = [word for word in words if word != "--help" and (whole or word != "...")]
    while (known := getattr(command, "commands", None)) and rest and not rest[0].startswith("-"):
        if rest[0] not in known:
            if not rest[0].isupper():
                yield f"{' '.join(names)} {rest[0]}{nearest(rest[0], known)}", f"one of {', '.join(sorted(known))}"
            return
        names.append(rest[0])
        command, rest = known[rest[0]], rest[1:]
    if known:
        return
    name = " ".join(names)
    try:
        context = command.make_context(name, list(rest))
    except _Refused as refused:
        without = _without_placeholder(rest, getattr(refused, "param", None))
        message = refused.format_message()
        if without is not None:
            yield from problems(tree, [*names[1:], *without], whole=whole)
        elif whole or not any(word in message for word in _UNFINISHED):
            yield f"{name}: {message}", f"what `{name} --help` lists"
        return
    yield from _presets(tree, name, context.params)
    yield from _keys(name, rest)


def _without_placeholder(words: list[str], param: Any) -> list[str] | None:
    """The words without the option whose value stands for any, such as N; None if it is no such value."""
    for number, word in enumerate(words):
        option, equals, value = word.partition("=")
        if param is not None and option in param.opts:
            size = 1 if equals else 2
            value = value if equals else "".join(words[number + 1 : number + 2])
            if _PLACEHOLDER.fullmatch(value):
                return words[:number] + words[number + size :]
    return None


def _presets(tree: Tree, name: str, arguments: dict[str, Any]) -> Iterator[Problem]:
    """A run or a pipeline without a path is the name of a preset."""
    folder, value = ("presets/data", arguments.get("pipeline")) if "pipeline" in arguments else ("presets", None)
    if "overrides" in arguments and "run" in arguments:
        value = arguments["run"]
    if not isinstance(value, str) or not re.fullmatch(r"[a-z0-9.-]+", value) or value.endswith(".yaml"):
        return
    if f"trainer/{folder}/{value}.yaml" not in tree.files:
        presets = [file.split("/")[-1][:-5] for file in tree.files if file.startswith(f"trainer/{folder}/")]
        yield f"{name} {value}{nearest(value, presets)}", f"a preset of trainer/{folder}, or a file"


def _keys(name: str, words: list[str]) -> Iterator[Problem]:
    schemas = _schemas(name)
    for key in assigned(words, ("--set", "--over")):
        missing = [missing_key(schema, key) for schema in schemas]
        if schemas and all(missing):
            yield f"{name} --set {key}: there is no {missing[0]}", "a key of docs/reference"


def _schemas(name: str) -> list[dict[str, Any]]:
    """What the keys of `--set` belong to; nothing for values of a chart, whose schema the program does not know."""
    match name:
        case "gpt-run job submit":
            return []
        case "gpt-run data prepare" | "gpt-run tokenizer train":
            return schemas()[1:]
        case _:
            return schemas()[:1]


@cache
def schemas() -> list[dict[str, Any]]:
    """Of the run file, and of the three kinds of pipeline files."""
    return [model.model_json_schema() for model in (RunConfig, Pipeline, ChatPipeline, TokenPipeline)]
