"""What all tests share."""

from __future__ import annotations

from hypothesis import settings

# Machines that run these tests are noisy; a deadline would fail a test for being slow once.
settings.register_profile("default", deadline=None)
settings.load_profile("default")
