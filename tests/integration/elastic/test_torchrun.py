"""Plain torchrun at our coordinator, through the entry point that the installed package has."""

from __future__ import annotations

import sys
from importlib.metadata import entry_points

import pytest

from tests.integration.elastic.conftest import MakeNodes
from tests.integration.nodes import Nodes
from tests.integration.training import Process, wait_until


def agent(nodes: Nodes) -> Process:
    return nodes.training.start(
        *("--nnodes", "1:2", "--nproc-per-node", "1", "--max-restarts", "5", "--monitor-interval", "0.1"),
        *("--rdzv-backend", "gpt-run", "--rdzv-endpoint", f"127.0.0.1:{nodes.port}", "--rdzv-id", "small"),
        *("-m", "trainer", "worker", "run.yaml"),
        program=("-m", "torch.distributed.run"),
    )


@pytest.mark.slow
def test_two_agents_train_and_one_goes_on_alone(make_nodes: MakeNodes) -> None:
    assert "gpt-run" in {point.name for point in entry_points(group="torchrun.handlers")}, sys.path
    nodes = make_nodes("1:2", steps=120, checkpoint={"every_steps": 5})
    first, second = agent(nodes), agent(nodes)
    # One that is much faster than the other begins alone.
    wait_until(lambda: bool(claims := nodes.training.claims()) and claims[-1]["world_size"] == 2)
    nodes.wait_for_steps(f"a{len(nodes.training.claims()):04d}", 3)
    second.power_off()
    assert first.wait() == 0, first.text
    assert nodes.training.claims()[-1]["world_size"] == 1
    assert sorted(nodes.training.steps()) == list(range(1, 121))
