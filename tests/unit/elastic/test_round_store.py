"""The store of a round listens where the launcher says, and nowhere else."""

from __future__ import annotations

import multiprocessing
import socket
from pathlib import Path

import pytest

from trainer.elastic.round_store import keep

LISTENING = "0A"


@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="needs Linux: who listens where is read from /proc")
def test_the_store_listens_on_one_address_alone() -> None:
    reader, writer = multiprocessing.Pipe(duplex=False)
    process = multiprocessing.get_context("spawn").Process(target=keep, args=("127.0.0.1", writer), daemon=True)
    process.start()
    try:
        port = reader.recv()
        assert listening(port) == {"0100007F"}
        with socket.create_connection(("127.0.0.1", port), timeout=20):
            pass
    finally:
        process.kill()
        process.join()


def listening(port: int) -> set[str]:
    """Addresses on which somebody listens at this port, as the kernel writes them."""
    found = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in Path(table).read_text().splitlines()[1:]:
            local, state = line.split()[1], line.split()[3]
            address, _, number = local.partition(":")
            if int(number, 16) == port and state == LISTENING:
                found.add(address)
    return found
