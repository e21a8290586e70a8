"""Commands are called in the process of the tests: what they do to it is undone."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

from trainer.elastic.signals import STOP_SIGNALS


@pytest.fixture(autouse=True)
def signals_are_handled_as_before() -> Iterator[None]:
    """A Ctrl+C after one of these tests ends the tests, and a SIGTERM the processes that later ones fork."""
    handlers = {number: signal.getsignal(number) for number in STOP_SIGNALS}
    yield
    signal.set_wakeup_fd(-1)
    for number, handler in handlers.items():
        signal.signal(number, handler)
