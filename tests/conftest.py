"""What all tests share."""

from __future__ import annotations

import os

from hypothesis import settings

# Read by torch at its import. Tests run on as many processes as there are cores: more threads would only wait.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# Machines that run these tests are noisy; a deadline would fail a test for being slow once.
settings.register_profile("default", deadline=None)
settings.register_profile("long", deadline=None, max_examples=10_000)
settings.load_profile("default")
