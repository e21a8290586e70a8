"""Where compiled code is kept: in a process of its own, for torch's imports change the environment."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import sys
import {first}
import torch._dynamo
from trainer.parallel.compile import use_compile_cache
from trainer.parallel.config import ParallelConfig
use_compile_cache(ParallelConfig(compile_cache=sys.argv[1]))
from torch._inductor.runtime.cache_dir_utils import cache_dir
print(cache_dir())
"""


@pytest.mark.parametrize("first", ["trainer.train.warm", "trainer.train.worker"])
@pytest.mark.parametrize("chosen", [None, "chosen"])
def test_the_cache_is_where_the_environment_or_the_run_file_says(
    tmp_path: Path, first: str, chosen: str | None
) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "TORCHINDUCTOR_CACHE_DIR"}
    (tmp_path / "tmp").mkdir()
    environment["TMPDIR"] = str(tmp_path / "tmp")
    if chosen is not None:
        environment["TORCHINDUCTOR_CACHE_DIR"] = str(tmp_path / chosen)
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(first=first), str(tmp_path / "configured")],
        env=environment,
        check=True,
        capture_output=True,
        text=True,
    )
    expected = tmp_path / chosen if chosen is not None else tmp_path / "configured" / "inductor"
    assert ended.stdout.strip() == str(expected)
    if first == "trainer.train.warm":
        assert list((tmp_path / "tmp").iterdir()) == []
