"""What a process owes its pod, and its name there."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from trainer.elastic import pod
from trainer.elastic.reasons import Reason


def test_the_reason_stands_in_front_and_the_end_of_a_long_message_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "termination-log"
    monkeypatch.setattr(pod, "TERMINATION_LOG", file)
    pod.explain_end("nobody is there")
    assert not file.exists()  # no pod

    file.touch()
    pod.explain_end("nobody is there")
    assert file.read_text() == "nobody is there"
    pod.explain_end("x" * 10_000 + " in the end", Reason.COORDINATOR_LOST)
    said = file.read_text()
    assert len(said) == 4096
    assert said.startswith("CoordinatorLost: xxx")
    assert said.endswith("xxx in the end")


def test_a_pod_on_the_nodes_network_goes_by_its_own_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GPTRUN_POD", raising=False)
    assert pod.host_name() == os.uname().nodename
    monkeypatch.setenv("GPTRUN_POD", "demo-worker-0")
    assert pod.host_name() == "demo-worker-0"
