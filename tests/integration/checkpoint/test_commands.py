"""`gpt-run checkpoints` as a user types it, on a disk: results, JSON, exit codes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from typer.testing import CliRunner

from tests.integration.checkpoint.helpers import claim, flip_bit, make_snapshot, save
from trainer.checkpoint.store import Store
from trainer.cli.checkpoints import app


def invoke(*arguments: str, exit_code: int = 0) -> str:
    result = CliRunner().invoke(app, list(arguments), catch_exceptions=False)
    assert result.exit_code == exit_code, result.output
    return result.stdout


def invoke_json(*arguments: str, exit_code: int = 0) -> Any:
    return json.loads(invoke(*arguments, "--json", exit_code=exit_code))


def test_list_and_show(disk_run: Store) -> None:
    save(claim(disk_run), make_snapshot(1, validation_loss=1.0), make_snapshot(2, validation_loss=2.0))
    rows = invoke_json("list", disk_run.url)
    assert list(rows[0]) == [
        "name",
        "step",
        "attempt",
        "tiers",
        "loss",
        "validation_loss",
        "bytes",
        "committed_at",
        "url",
    ]
    assert [(row["step"], row["tiers"]) for row in rows] == [(1, ["rolling", "best"]), (2, ["latest", "rolling"])]
    assert "step-00000002-a0001\t2\t5.0000\t2.0000" in invoke("list", disk_run.url)
    disk_run.write_once("checkpoints/step-00000001-a0001/eval-loss.json", b'{"validation_loss": 1.0}')
    shown = invoke_json("show", f"{disk_run.url}@best")
    assert shown["name"] == "step-00000001-a0001"
    assert shown["evaluations"] == {"loss": {"validation_loss": 1.0}}
    assert shown["files"] == rows_files(disk_run, "step-00000001-a0001")
    assert invoke_json("show", rows[1]["url"])["step"] == invoke_json("show", disk_run.url)["step"] == 2


def test_verify_tells_by_exit_code(disk_run: Store) -> None:
    save(claim(disk_run), make_snapshot(1))
    assert "sound" in invoke("verify", disk_run.url)
    flip_bit(disk_run, "checkpoints/step-00000001-a0001/__0_1.distcp")
    result = invoke_json("verify", disk_run.url, exit_code=1)
    assert not result["sound"]
    assert result["problems"][0].startswith("__0_1.distcp has sha256")


def test_pull_pin_and_prune(disk_run: Store, tmp_path: Path) -> None:
    save(claim(disk_run), make_snapshot(1), make_snapshot(2), make_snapshot(3))
    pulled = invoke_json("pull", f"{disk_run.url}@step:1", "--output", str(tmp_path))
    assert invoke_json("verify", pulled["folder"])["sound"]
    assert invoke_json("pin", f"{disk_run.url}@step:1", "--note", "why")["changed"]
    assert not invoke_json("pin", f"{disk_run.url}@step:1")["changed"]
    assert "would delete step-00000002-a0001" in invoke("prune", disk_run.url, "--rolling", "1", "--dry-run")
    assert len(invoke_json("list", disk_run.url)) == 3
    assert invoke_json("prune", disk_run.url, "--rolling", "1")["deleted"] == ["step-00000002-a0001"]
    assert invoke_json("pin", f"{disk_run.url}@step:1", "--remove")["changed"]
    assert invoke_json("prune", disk_run.url, "--rolling", "1")["deleted"] == ["step-00000001-a0001"]


def rows_files(run: Store, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(run.read_bytes(f"checkpoints/{name}/COMMITTED.json"))["files"]
    return found
