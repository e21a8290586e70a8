"""A network of its own for every machine of a run: namespaces on one bridge, each of whose cables can be pulled."""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
import subprocess
from collections.abc import Iterator


class Network:
    """A bridge on this host, and machines behind it."""

    INTERFACE = "machine0"
    """What every machine calls its end of the cable."""

    def __init__(self, number: int) -> None:
        """number: of this network among those that this host has at a time."""
        self._name = f"gptf{number}"
        self.hub = f"10.87.{number}.1"
        """Where machines find the host."""
        self._subnet = f"10.87.{number}"

    @staticmethod
    @functools.cache
    def cannot() -> str | None:
        """Why there are no namespaces here; None if there are. Asked once, before streams of runs begin."""
        if os.geteuid() != 0:
            return "no root: machines cannot have networks of their own"
        if shutil.which("ip") is None:
            return "no `ip`: machines cannot have networks of their own"
        probe = subprocess.run(["ip", "link", "add", "gptfprobe", "type", "bridge"], capture_output=True, check=False)
        subprocess.run(["ip", "link", "del", "gptfprobe"], capture_output=True, check=False)
        return None if probe.returncode == 0 else "this machine may not make bridges"

    @classmethod
    @contextlib.contextmanager
    def of(cls, number: int, machines: int) -> Iterator[Network]:
        """The network of so many machines, taken away after the block."""
        network = cls(number)
        network._remove(machines)  # of a campaign that was killed
        try:
            network._make(machines)
            yield network
        finally:
            network._remove(machines)

    def path(self, machine: int) -> str:
        """What a process enters the machine's network by."""
        return f"/var/run/netns/{self._name}-{machine}"

    def cut(self, machine: int) -> None:
        """Pull the cable: nothing comes through, and nobody is told."""
        _ip("link", "set", f"{self._name}-{machine}", "down")

    def join(self, machine: int) -> None:
        """Put it in again."""
        _ip("link", "set", f"{self._name}-{machine}", "up")

    def _make(self, machines: int) -> None:
        _ip("link", "add", self._name, "type", "bridge")
        _ip("addr", "add", f"{self.hub}/24", "dev", self._name)
        _ip("link", "set", self._name, "up")
        for machine in range(machines):
            name = f"{self._name}-{machine}"
            _ip("netns", "add", name)
            _ip("link", "add", name, "type", "veth", "peer", "name", self.INTERFACE, "netns", name)
            _ip("link", "set", name, "master", self._name, "up")
            _ip("-n", name, "addr", "add", f"{self._subnet}.{machine + 2}/24", "dev", self.INTERFACE)
            _ip("-n", name, "link", "set", self.INTERFACE, "up")
            _ip("-n", name, "link", "set", "lo", "up")

    def _remove(self, machines: int) -> None:
        for machine in range(machines):
            subprocess.run(["ip", "netns", "del", f"{self._name}-{machine}"], capture_output=True, check=False)
        subprocess.run(["ip", "link", "del", self._name], capture_output=True, check=False)


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)
