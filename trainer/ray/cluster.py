"""The connection to a Ray cluster, or a cluster of our own on this machine; for `gpt-run ray` and for preparation."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
from collections.abc import Iterator

from trainer.addresses import parted
from trainer.errors import UserError
from trainer.extras import needs

# Read when Ray is imported, in the driver and in what it starts. What the environment says already holds.
_SETTINGS = {
    # A run is nobody else's business.
    "RAY_USAGE_STATS_ENABLED": "0",
    # Lines of one rank differ by their numbers only: they are progress, not repetition.
    "RAY_DEDUP_LOGS": "0",
    # What workers print goes to their standard output as it is.
    "RAY_TRAIN_ENABLE_PRINT_PATCH": "0",
    # Workers stay in the driver's folder.
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    # Training is what the machine is for; Ray starts workers with niceness 15.
    "RAY_worker_niceness": "0",
    # How long a failure or an end goes unnoticed; Ray's default is 2 s.
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.5",
}
# How long a cluster may take to answer at all.
REACH_SECONDS = 10
# All that is kept there is the train function.
_OBJECT_STORE_BYTES = 100 * 2**20


@contextlib.contextmanager
def connected(max_workers: int) -> Iterator[None]:
    """Connect to the cluster that RAY_ADDRESS names, else start one that has room for so many workers.

    Signals stay whose they were: Ray sets a handler of its own, which would end the driver without a save.
    """
    for name, value in _SETTINGS.items():
        os.environ.setdefault(name, value)
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    with needs("ray", "a Ray cluster"):
        import ray

    address = os.environ.get("RAY_ADDRESS")
    if address:
        try:
            _reach(address)
            ray.init(address, logging_level=logging.WARNING)
        except OSError as error:  # Ray raises ConnectionError for a token that is refused
            raise UserError(
                f"RAY_ADDRESS={address}: {error}",
                expected="a Ray cluster that answers there, and the token it wants, if it wants one",
                fix="correct RAY_ADDRESS, or set RAY_AUTH_MODE (and RAY_AUTH_TOKEN) as its nodes have them",
            ) from error
    else:
        ray.init(
            "local",
            num_cpus=max(os.cpu_count() or 1, max_workers),
            object_store_memory=_OBJECT_STORE_BYTES,
            include_dashboard=False,
            logging_level=logging.WARNING,
            # What looks after abandoned workers asks the dashboard, and complains every second that there is none.
            logging_config=ray.LoggingConfig(log_level="ERROR"),
        )
    try:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        yield
    finally:
        ray.shutdown()


def _reach(address: str) -> None:
    """Raise OSError where nothing listens at HOST:PORT. Ray would go on trying for minutes."""
    try:
        place = parted(address)
    except ValueError:  # of another kind, such as auto or ray://HOST:PORT
        return
    socket.create_connection(place, timeout=REACH_SECONDS).close()


def has_gpus() -> bool:
    """Whether a node of the cluster has a GPU."""
    import ray

    return float(ray.cluster_resources().get("GPU", 0)) > 0
