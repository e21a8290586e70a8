"""`gpt-run data prepare --engine ray` on a real Ray cluster: the bytes that a single machine writes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.integration.ray.conftest import AUTHENTICATION, TEST_SECONDS, WAIT_SECONDS, Cluster
from tests.integration.training import ENVIRONMENT

pytestmark = [pytest.mark.ray, pytest.mark.timeout(TEST_SECONDS)]


def pipeline(folder: Path, **changes: Any) -> Path:
    """A pipeline file with every kind of stage, over some of this Python's library."""
    settings = {
        "name": "small",
        "output": str(folder / "local"),
        "sources": [{"type": "python-library", "max_bytes": 1_500_000}],
        "clean": [{"type": "normalise"}, {"type": "gopher-quality", "min_words": 20, "min_stop_words": 0}],
        "duplicates": {"near": {}},
        "tokenizer": {"type": "bpe", "vocab_size": 512, "sample_bytes": 100_000},
        "shard_tokens": 60_000,
    }
    path = folder / "pipeline.yaml"
    path.write_text(json.dumps(settings | changes))
    return path


def prepare(file: Path, output: Path, *options: str, address: str = "") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "trainer", "data", "prepare", str(file), "--output", str(output), *options]
    environment = os.environ | ENVIRONMENT | AUTHENTICATION | {"RAY_ADDRESS": address}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=WAIT_SECONDS)


def contents(folder: Path) -> dict[str, bytes]:
    """Shards and tokenizer; dataset.json tells the time too."""
    files = [*folder.rglob("*.arrow"), folder / "tokenizer.json"]
    return {str(file.relative_to(folder)): file.read_bytes() for file in files}


def test_a_cluster_writes_what_one_machine_writes(cluster: Cluster, tmp_path: Path) -> None:
    file = pipeline(tmp_path)
    local = prepare(file, tmp_path / "local")
    assert local.returncode == 0, local.stderr
    spread = prepare(file, tmp_path / "ray", "--engine", "ray", address=cluster.address)
    assert spread.returncode == 0, spread.stderr
    assert "by Ray Data" in spread.stderr
    assert contents(tmp_path / "ray") == contents(tmp_path / "local")
    assert len(contents(tmp_path / "ray")) > 4
    again = prepare(file, tmp_path / "ray", "--engine", "ray", address=cluster.address)
    assert "is up to date" in again.stdout


def test_a_task_that_meets_bad_input_ends_it_in_words(cluster: Cluster, tmp_path: Path) -> None:
    (tmp_path / "texts").mkdir()
    for name in ("a", "b"):
        (tmp_path / "texts" / f"{name}.txt").write_bytes(b"\xff")
    source = {"type": "text", "path": str(tmp_path / "texts"), "on_error": "stop"}
    result = prepare(pipeline(tmp_path, sources=[source]), tmp_path / "out", "--engine", "ray", address=cluster.address)
    assert result.returncode == 2, result.stderr
    assert "a.txt" in result.stderr
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "out" / "dataset.json").exists()


def test_a_cluster_that_is_not_there_is_named(tmp_path: Path) -> None:
    result = prepare(pipeline(tmp_path), tmp_path / "out", "--engine", "ray", address="127.0.0.1:1")
    assert result.returncode == 2, result.stderr
    assert "RAY_ADDRESS" in result.stderr
    assert "Traceback" not in result.stderr
