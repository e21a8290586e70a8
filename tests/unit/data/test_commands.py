"""`gpt-run data`: the commands' output and their JSON."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from trainer.cli.data import app
from trainer.errors import UserError


@pytest.fixture
def pipeline(tmp_path: Path) -> Path:
    (tmp_path / "t.txt").write_text("A short text.\n" * 50)
    path = tmp_path / "p.yaml"
    path.write_text(
        f"name: short\noutput: {tmp_path}/out\nsources: [{{type: text, path: {tmp_path}/t.txt}}]\n"
        "tokenizer: {type: bpe, vocab_size: 280}\nvalidation_fraction: 0\n"
    )
    return path


def test_prepare_then_inspect(pipeline: Path, tmp_path: Path) -> None:
    runner = CliRunner()
    made = runner.invoke(app, ["prepare", str(pipeline), "--json"])
    assert made.exit_code == 0, made.output
    result = json.loads(made.stdout)
    assert (result["skipped"], result["folder"]) == (False, f"{tmp_path}/out")
    again = runner.invoke(app, ["prepare", str(pipeline)])
    assert again.stdout.startswith(f"{tmp_path}/out is up to date: train {result['tokens']['train']:,} tokens")
    elsewhere = runner.invoke(app, ["prepare", str(pipeline), "--output", str(tmp_path / "other")])
    assert elsewhere.stdout.startswith(f"{tmp_path}/other is ready")
    shown = runner.invoke(app, ["inspect", f"{tmp_path}/out", "--verify", "--json"])
    report = json.loads(shown.stdout)
    assert (report["verified_shards"], report["fingerprint"]) == (1, result["fingerprint"])
    page = tmp_path / "pages" / "report.html"
    written = runner.invoke(app, ["inspect", f"{tmp_path}/out", "--html", str(page), "--samples", "1"])
    assert "A short text." in written.stdout
    assert written.stderr == f"wrote {page}\n"
    assert "A short text." in page.read_text(encoding="utf-8")


def test_a_page_that_cannot_be_written_is_refused_before_reading(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["inspect", str(tmp_path / "nosuch"), "--html", str(tmp_path)])
    assert isinstance(result.exception, UserError)
    assert str(result.exception).startswith(f"--html {tmp_path} is no file")


@pytest.mark.parametrize("command", ["prepare", "inspect"])
def test_help_has_an_example(command: str) -> None:
    assert f"Example: gpt-run data {command}" in CliRunner().invoke(app, [command, "--help"]).stdout
