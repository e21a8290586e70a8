"""A coordinator and launchers that stand for machines, on this one: for tests and benchmarks of elastic runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tests.integration.servers import free_port
from tests.integration.training import Process, Training, read_status, sets
from trainer.addresses import joined


class Nodes:
    """One run's machines."""

    def __init__(
        self, training: Training, *, nodes: str, http_port: int | None = None, host: str = "127.0.0.1"
    ) -> None:
        """host: the coordinator's address, where launchers look for it."""
        self.training = training
        self._host = host
        self.port, self.http_port = free_port(), http_port or free_port()
        self._nnodes = nodes
        self.coordinator = self.start_coordinator()
        self.launchers: list[Process] = []

    def start_coordinator(self) -> Process:
        """`gpt-run coordinator`, listening."""
        process = self.training.start("coordinator", "--port", str(self.port), "--http", str(self.http_port))
        process.wait_for("coordinator: ")
        self.coordinator = process
        return process

    def start(self, *overrides: str, nproc: int = 1, environment: Mapping[str, str] | None = None) -> Process:
        """`gpt-run train` of one more machine."""
        launcher = self.training.start(
            *("train", "run.yaml", "--nproc", str(nproc), "--nnodes", self._nnodes),
            *("--coordinator", joined(self._host, self.port), *sets(overrides)),
            environment=environment,
        )
        self.launchers.append(launcher)
        return launcher

    def status(self) -> dict[str, Any]:
        """The coordinator's /status."""
        return read_status(self.http_port)

    def wait_for_steps(self, attempt: str, steps: int) -> None:
        """Wait until an attempt has logged so many steps."""
        self.training.wait_for_steps(attempt, steps)

    def end(self) -> None:
        """End everything."""
        self.training.end()
