"""By what name launchers introduce themselves."""

from __future__ import annotations

from collections.abc import Callable
from unittest.mock import create_autospec

import pytest
from pydantic import BaseModel
from torch.distributed.elastic.rendezvous import RendezvousParameters

from trainer.elastic import launcher
from trainer.elastic.messages import Hello
from trainer.elastic.rendezvous import CoordinatorRendezvous
from trainer.elastic.signals import StopSignals

JOB = launcher.Job(
    run="demo",
    version="1",
    config_sha256="",
    function="",
    arguments=(),
    slots=1,
    min_nodes=1,
    max_nodes=1,
    grace_seconds=1.0,
    hang_seconds=1.0,
    budget_failures=1,
    budget_window_seconds=1.0,
    patient=False,
)
HOST, PORT = "127.0.0.1", 1  # nobody listens


def introduction_of_a_launcher() -> list[BaseModel]:
    return launcher.Launcher(
        JOB, coordinator=(HOST, PORT), preload="", signals=create_autospec(StopSignals, instance=True)
    )._introduction()


def introduction_of_torchrun() -> list[BaseModel]:
    made = CoordinatorRendezvous(RendezvousParameters("gpt-run", f"{HOST}:{PORT}", "demo", 1, 1))
    try:
        return made._introduction()
    finally:
        made.shutdown()


@pytest.mark.parametrize("introduction", [introduction_of_a_launcher, introduction_of_torchrun])
def test_in_a_pod_by_the_pods_name(
    introduction: Callable[[], list[BaseModel]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GPTRUN_POD", "demo-worker-0")
    # No workers are forked: the fork server is stood in for.
    monkeypatch.setattr(launcher, "Forks", lambda *_, **__: None)
    hello = introduction()[0]
    assert isinstance(hello, Hello)
    assert hello.host == "demo-worker-0"
