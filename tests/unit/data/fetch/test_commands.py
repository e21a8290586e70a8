"""The options of `gpt-run data fetch`."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest
from typer.testing import CliRunner

from trainer.cli.data import app
from trainer.cli.fetch import fetch
from trainer.data.fetch.config import FetchConfig
from trainer.errors import UserError


def test_help_has_an_example() -> None:
    assert "Example: gpt-run data fetch" in CliRunner().invoke(app, ["fetch", "--help"]).stdout


def test_defaults_are_those_of_the_settings() -> None:
    options = inspect.signature(fetch).parameters
    for name, value in FetchConfig():
        if name in options and not isinstance(value, tuple):
            assert options[name].default == value, name


@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        (["--mirror", "gutenberg"], "--mirror gutenberg"),
        (["--requests-per-second", "0"], "requests_per_second"),
        (["--contact", "me and you"], "contact"),
        ([], "nothing to fetch at no source"),
        (["no-such-folder"], "no-such-folder"),
        (["--list", "no-such-list"], "no-such-list"),
        (["mystery://x/y"], "mystery"),
    ],
)
def test_wrong_options_say_which(arguments: list[str], found: str, tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["fetch", *arguments, "--output", str(tmp_path / "out")])
    assert isinstance(result.exception, UserError), result.output
    assert found in str(result.exception)
    assert not (tmp_path / "out").exists()
