"""A run of real processes that grows from 1 rank to 2 and 3 and shrinks to 1 again keeps every tensor bitwise."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.integration.checkpoint.conftest import url_of
from tests.integration.servers import Server

WORLDS = [1, 2, 3, 3, 1]
ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize("kind", ["disk", pytest.param("s3", marks=pytest.mark.slow)])
def test_tensors_stay_bitwise_over_world_sizes(
    kind: str, start_server: Callable[[str], Server], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    phases = run_phases(url_of(kind, start_server, tmp_path, monkeypatch), tmp_path)
    assert [phase["world_size"] for phase in phases] == WORLDS
    for number, phase in enumerate(phases):
        assert phase["errors"] == [None] * phase["world_size"]
        if number == 0:
            continue
        before = phases[number - 1]
        assert phase["loaded"] == f"step-{10 * number:08d}-a{number:04d}"
        assert phase["digests_loaded"] == before["digests_saved"]
        assert phase["digests_saved"] != before["digests_saved"]
        same_world = phase["world_size"] == before["world_size"]
        world_size = phase["world_size"]
        expected = [f"rank {rank} of {world_size}" if same_world else None for rank in range(world_size)]
        assert phase["rank_states"] == expected
    if kind == "disk":
        for phase in phases:
            (error,) = phase["limited"]
            assert f"rank {phase['world_size'] - 1}: OSError: [Errno 27] File too large" in error


def run_phases(store: str, folder: Path) -> list[dict[str, Any]]:
    """What each phase reported."""
    command = [
        sys.executable,
        "-m",
        "tests.integration.checkpoint.worlds",
        store,
        str(folder),
        ",".join(map(str, WORLDS)),
    ]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    result = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=200, check=False
    )
    assert result.returncode == 0, result.stderr[-6000:]
    return [json.loads((folder / f"phase-{number}.json").read_text()) for number in range(len(WORLDS))]
