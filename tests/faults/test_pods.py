"""Logs of containers as they are read from a node: lines made whole, and nothing lost with the pod."""

from __future__ import annotations

from pathlib import Path

from tests.faults.pods import Log


def test_a_log_is_copied_as_it_grows_and_outlives_its_pod(tmp_path: Path) -> None:
    source, output = tmp_path / "0.log", tmp_path / "output.txt"
    with source.open("wb", buffering=0) as stream:
        log = Log(source, output, "uid")
        stream.write(b'2026-11-22T20:00:00.1Z stdout F round 1: 2 nodes\n2026-11-22T20:00:00.2Z stdout P {"step": ')
        log.copy()
        assert output.read_bytes() == b"round 1: 2 nodes\n"
        stream.write(b"\n2026-11-22T20:00:00.3Z stderr F 1}\n")
        source.unlink()
        log.copy()
    log.close()
    assert output.read_bytes() == b'round 1: 2 nodes\n{"step": 1}\n'
