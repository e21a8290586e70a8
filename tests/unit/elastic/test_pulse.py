"""A worker's pipe to its launcher: lines arrive whole, and a launcher that does not read costs nothing."""

from __future__ import annotations

import os

from trainer.elastic.pulse import Pulse, PulseReader


def test_lines_arrive_whole_and_in_order() -> None:
    reader, writer = os.pipe()
    pulse = Pulse(writer)
    incoming = PulseReader(reader)
    assert incoming.read() == []
    pulse.tell(step=1, loss=2.5)
    pulse.tell(step=2, phase="training")
    assert incoming.read() == [{"step": 1, "loss": 2.5}, {"step": 2, "phase": "training"}]
    os.write(writer, b'{"step"')
    assert incoming.read() == []
    os.write(writer, b": 3}\n")
    assert incoming.read() == [{"step": 3}]


def test_a_full_or_broken_pipe_is_no_obstacle() -> None:
    reader, writer = os.pipe()
    pulse = Pulse(writer)
    for step in range(20_000):
        pulse.tell(step=step)
    received = PulseReader(reader).read()
    assert [line["step"] for line in received] == list(range(len(received)))
    pulse.tell(text="x" * 10_000)  # no line of that length is whole for sure
    assert PulseReader(reader).read() == []
    os.close(reader)
    pulse.tell(step=1)


def test_without_a_pipe_nothing_is_said() -> None:
    Pulse().tell(step=1)
