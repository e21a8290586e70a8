"""A run whose machines know each other by IPv6 addresses, as on a cluster that has no others."""

from __future__ import annotations

import json
import urllib.request

import pytest

from tests.integration.elastic.conftest import MakeNodes
from tests.ipv6 import needs_ipv6


@needs_ipv6
@pytest.mark.slow
def test_two_ranks_train_over_ipv6(make_nodes: MakeNodes) -> None:
    nodes = make_nodes("1", host="::1", steps=3)
    launcher = nodes.start(nproc=2)
    assert launcher.wait() == 0, launcher.text
    assert [claim["world_size"] for claim in nodes.training.claims()] == [2]
    assert sorted(nodes.training.steps()) == [1, 2, 3]
    with urllib.request.urlopen(f"http://[::1]:{nodes.http_port}/status", timeout=20) as answer:
        assert json.load(answer)["phase"] == "finished"
