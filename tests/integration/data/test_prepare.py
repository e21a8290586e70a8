"""`gpt-run data prepare` as a process of its own: killed at any moment, it goes on and writes the same bytes."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.integration.training import processes_of, wait_until
from trainer.data import corpus

KILLS = 6
LONGEST_SECONDS = 8.0


@pytest.fixture
def pipeline(tmp_path: Path) -> Path:
    """A pipeline file over some of the standard library, in many parts, with near duplicates left out."""
    folder = tmp_path / "texts"
    folder.mkdir()
    for number, (_, path) in enumerate(corpus.library_files()[:400]):
        (folder / f"{number:04d}.txt").write_bytes(path.read_bytes())
    settings: dict[str, Any] = {
        "name": "killed",
        "output": str(tmp_path / "out"),
        "sources": [{"type": "text", "path": str(folder), "part_bytes": 300_000}],
        "duplicates": {"near": {}},
        "tokenizer": {"type": "bpe", "vocab_size": 600, "sample_bytes": 300_000},
        "validation_fraction": 0.05,
        "shard_tokens": 100_000,
    }
    file = tmp_path / "pipeline.yaml"
    file.write_text(json.dumps(settings))  # which is YAML too
    return file


def command(pipeline: Path, output: Path) -> list[str]:
    """The command that prepares into a folder."""
    return [
        sys.executable,
        "-m",
        "trainer",
        "data",
        "prepare",
        str(pipeline),
        "--output",
        str(output),
        "--workers",
        "2",
    ]


def contents(folder: Path) -> dict[str, bytes]:
    """Files of a set, without what tells when it was made."""
    files = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    return {name: path.read_bytes() for name, path in files.items() if not name.startswith((".", "dataset", "prepare"))}


@pytest.mark.slow
def test_a_preparation_that_is_killed_again_and_again_writes_the_same_bytes(pipeline: Path, tmp_path: Path) -> None:
    subprocess.run(command(pipeline, tmp_path / "alone"), check=True, capture_output=True)
    chance = random.Random(7)
    killed = 0
    for _ in range(KILLS):
        process = subprocess.Popen(
            command(pipeline, tmp_path / "out"),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        time.sleep(chance.uniform(0.5, LONGEST_SECONDS))
        process.send_signal(signal.SIGKILL)
        killed += process.wait() == -signal.SIGKILL
        wait_until(lambda session=process.pid: not processes_of([session]))  # type: ignore[misc]
        if (tmp_path / "out" / "dataset.json").exists():
            break
    assert killed
    subprocess.run(command(pipeline, tmp_path / "out"), check=True, capture_output=True)

    one, other = contents(tmp_path / "alone"), contents(tmp_path / "out")
    assert one.keys() == other.keys()
    assert [name for name in one if one[name] != other[name]] == []
    described = [json.loads((tmp_path / name / "dataset.json").read_bytes()) for name in ("alone", "out")]
    assert described[0]["fingerprint"] == described[1]["fingerprint"]
    assert len(described[0]["splits"]["train"]["shards"]) > 3
