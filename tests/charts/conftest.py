"""What the chart's tests share: helm, built from its pinned module, and ways to render with it."""

from __future__ import annotations

from pathlib import Path

import pytest

from charts.generator.values import PLATFORM
from tests.charts.rendering import Chart
from tests.integration.servers import go_tool


@pytest.fixture(scope="session")
def helm() -> Path:
    """The helm binary; where it cannot be built, the test says why and is skipped."""
    return go_tool("helm")


@pytest.fixture
def chart(helm: Path, tmp_path: Path) -> Chart:
    """The run's chart with the fewest values that render."""
    return Chart(helm, tmp_path)


@pytest.fixture
def platform(helm: Path, tmp_path: Path) -> Chart:
    """The platform's chart."""
    return Chart(helm, tmp_path, PLATFORM, {})
