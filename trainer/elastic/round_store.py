"""The process that holds the store of one round; forked by the launcher, ended by it when the round is over."""

from __future__ import annotations

import socket
import threading
from multiprocessing.connection import Connection


def keep(host: str, port: Connection) -> int:
    """Open a TCP store on a port of the kernel's choice, send the port, and hold it until killed.

    It listens on `host` alone: by itself torch would listen on every network of the machine, and whoever reaches the
    store can have the workers connect to him.
    """
    import torch.distributed as dist

    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.create_server((host, 0), family=family, backlog=socket.SOMAXCONN)
    number = listener.getsockname()[1]
    store = dist.TCPStore(  # type: ignore[attr-defined]
        host, number, is_master=True, wait_for_workers=False, master_listen_fd=listener.detach()
    )
    port.send(store.port)
    port.close()
    threading.Event().wait()
    return 0
