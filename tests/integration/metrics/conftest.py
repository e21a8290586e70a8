"""Machines of one run, and a Prometheus with the rules of its chart, all durations a hundredth of what is shipped."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.metrics.scraping import Prometheus, prometheus
from tests.integration.nodes import Nodes
from tests.integration.servers import go_tool
from tests.integration.training import Training
from tests.rules.rendering import platform_rules

SCALE = 0.01

MakeNodes = Callable[..., Nodes]
Watch = Callable[[Nodes], Prometheus]


@pytest.fixture
def make_nodes(tmp_path: Path, dataset: Path) -> Iterator[MakeNodes]:
    """Make a coordinator of a run that does not end by itself; keyword arguments change the run file."""
    with contextlib.ExitStack() as stack:

        def make(nodes: str = "1:3", **changes: Any) -> Nodes:
            settings = {"steps": 1_000_000, "checkpoint": {"every_steps": 50}, "elastic": {"budget": {"failures": 100}}}
            made = Nodes(Training(tmp_path / "run", dataset, settings | changes), nodes=nodes)
            stack.callback(made.end)
            return made

        yield make


@pytest.fixture
def watch(tmp_path: Path) -> Iterator[Watch]:
    """Start a Prometheus that scrapes a run's coordinator and evaluates the rules."""
    groups = platform_rules(go_tool("helm"), scale=SCALE)
    with contextlib.ExitStack() as stack:
        yield lambda nodes: stack.enter_context(
            prometheus(tmp_path / "prometheus", [nodes.http_port], groups, lookback_seconds=300 * SCALE)
        )
