"""Last words of a process for the kubelet."""

from __future__ import annotations

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
