"""RAY_ADDRESS is tried before Ray would try it for minutes."""

from __future__ import annotations

import socket

import pytest

from tests.ipv6 import needs_ipv6
from trainer.addresses import bound, joined
from trainer.ray.cluster import _reach


@pytest.mark.parametrize("host", ["127.0.0.1", pytest.param("::1", marks=needs_ipv6)])
def test_an_address_is_tried(host: str) -> None:
    with bound(host, 0) as listener:
        address = joined(host, listener.getsockname()[1])
        with pytest.raises(ConnectionRefusedError):
            _reach(address)
        listener.listen()
        _reach(address)
        listener.settimeout(10)
        listener.accept()[0].close()


@pytest.mark.parametrize("address", ["auto", "ray://127.0.0.1:1", "local"])
def test_other_kinds_are_left_to_ray(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(socket, "create_connection")
    _reach(address)
