"""What is read from the API server's pods."""

from __future__ import annotations

import pytest
from kubernetes.client import V1Container, V1ObjectMeta, V1Pod, V1PodSpec, V1PodStatus

from trainer.jobs.cluster import _pod


@pytest.mark.parametrize(
    ("hostname", "host_network", "names"),
    [
        (None, False, ("run-worker-0",)),
        ("run-0", False, ("run-worker-0", "run-0")),
        # Launchers of charts that set no GPTRUN_POD go by the node's name.
        (None, True, ("run-worker-0", "node-7.example", "node-7")),
    ],
)
def test_the_names_that_a_launcher_may_go_by(hostname: str | None, host_network: bool, names: tuple[str, ...]) -> None:
    spec = V1PodSpec(
        containers=[V1Container(name="pytorch")],
        hostname=hostname,
        host_network=host_network,
        node_name="node-7.example",
    )
    item = V1Pod(metadata=V1ObjectMeta(name="run-worker-0", uid="uid"), spec=spec, status=V1PodStatus())
    assert _pod(item).host_names == names
