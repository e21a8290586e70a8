"""Wall clocks that are wrong: a small library, compiled once, that a process is started with."""

from __future__ import annotations

import shutil

import pytest

from tests.cluster.tools import locked
from tests.integration.servers import TOOLS, built, cache_folder


def skewed(seconds: int) -> dict[str, str]:
    """The environment of a process whose wall clock is ahead, and of all it starts. Skips without a C compiler."""
    if shutil.which("cc") is None:
        pytest.skip("a wrong clock: no C compiler")
    folder = cache_folder("clock_skew.c")
    library = folder / "clock_skew.so"
    with locked(folder / "lock"):
        if not library.exists():
            command = ["cc", "-shared", "-fPIC", "-O2", "-o", str(library), "clock_skew.c", "-ldl"]
            built(command, "a wrong clock", cwd=TOOLS)
    return {"LD_PRELOAD": str(library), "CLOCK_SKEW_SECONDS": str(seconds)}
