"""What tests of rules share."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.charts.rendering import Chart
from tests.integration.servers import go_tool
from tests.rules.promtool import Promtool
from tests.rules.rendering import Group, platform_rules
from tests.tools.prometheus import Programs, prometheus_programs


@pytest.fixture(scope="session")
def helm() -> Path:
    """The helm binary; where it cannot be built, the test says why and is skipped."""
    return go_tool("helm")


@pytest.fixture(scope="session")
def programs() -> Programs:
    """prometheus and promtool; where they cannot be had, the test says why and is skipped."""
    return prometheus_programs()


@pytest.fixture(scope="session")
def groups(helm: Path) -> list[Group]:
    """The rules for all runs."""
    return platform_rules(helm)


@pytest.fixture
def chart(helm: Path, tmp_path: Path) -> Chart:
    """charts/gpt-run with the fewest values that render."""
    return Chart(helm, tmp_path)


@pytest.fixture
def promtool(programs: Programs, groups: list[Group], tmp_path: Path) -> Promtool:
    """promtool with those rules."""
    return Promtool(programs.promtool, tmp_path, groups)
