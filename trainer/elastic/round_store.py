"""The process that holds the store of one round; forked by the launcher, ended by it when the round is over."""

from __future__ import annotations

import threading
from multiprocessing.connection import Connection


def keep(host: str, port: Connection) -> int:
    """Open a TCP store on a port of the kernel's choice, send the port, and hold it until killed."""
    import torch.distributed as dist

    store = dist.TCPStore(host, 0, is_master=True, wait_for_workers=False)  # type: ignore[attr-defined]
    port.send(store.port)
    port.close()
    threading.Event().wait()
    return 0
