"""Processes whose wall clock is wrong wait as long as others, as on a machine whose kernel has the wrong time."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest

from tests.integration.clocks import skewed

# A semaphore's end is a time of the wall clock, worked out in this process and kept by the kernel.
WAITS = """
import multiprocessing, time
wall, began = time.time(), time.monotonic()
assert not multiprocessing.Semaphore(0).acquire(timeout=0.5)
print(wall, time.monotonic() - began)
"""


@pytest.mark.parametrize("seconds", [600, -600])
def test_a_wait_lasts_as_long_by_a_wrong_clock(seconds: int) -> None:
    before = time.time()
    result = subprocess.run(
        [sys.executable, "-c", WAITS],
        env=os.environ | skewed(seconds),
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    wall, waited = map(float, result.stdout.split())
    assert abs(wall - before - seconds) < 120
    # Not at once, and not when the kernel's clock gets where the wrong one was.
    assert 0.4 < waited < 300
