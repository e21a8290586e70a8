"""What the chart's tests share: helm, built from its pinned module, and ways to render with it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.charts.rendering import Chart
from tests.cluster.tools import ToolMissing, tool


@pytest.fixture(scope="session")
def helm() -> Path:
    """The helm binary; where it cannot be built, the test says why and is skipped."""
    try:
        return tool("helm")
    except ToolMissing as missing:
        pytest.skip(f"charts need helm: {missing}")


@pytest.fixture
def chart(helm: Path, tmp_path: Path) -> Chart:
    """The chart with the fewest values that render."""
    return Chart(helm, tmp_path)
