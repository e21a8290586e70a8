"""How long kopf's watches are believed; on a real API server they are seen in tests/cluster/test_operator_api.py."""

from __future__ import annotations

from operators import handlers


def test_the_api_server_ends_watches_before_they_are_taken_for_dead() -> None:
    found = handlers.settings().watching
    assert found.server_timeout is not None
    assert isinstance(found.server_timeout, int), "as the API server reads it"
    # Its bookmark comes two seconds before the end.
    assert found.server_timeout < found.inactivity_timeout < 30
