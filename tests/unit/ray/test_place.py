"""Where a rank says that it runs."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from trainer.ray import worker


def test_the_host_of_a_rank_is_its_pod(monkeypatch: pytest.MonkeyPatch) -> None:
    # Stands in for a connection to a cluster.
    context = SimpleNamespace(get_node_id=lambda: "a")
    monkeypatch.setattr(worker, "ray", SimpleNamespace(get_runtime_context=lambda: context))
    monkeypatch.setenv("GPTRUN_POD", "demo-worker-0")
    assert worker.place() == ("a", "demo-worker-0")
