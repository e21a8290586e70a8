"""How kopf watches for us: with all that it would do of its own turned off. Called by `watches`."""

from __future__ import annotations

from typing import Any

import kopf

# The API server ends a watch after so long, with a bookmark before it; one that is silent for longer is taken for dead.
# Its own minute between bookmarks would let a watch that an interruption left hanging stay so for a minute.
_WATCH_SECONDS, _SILENT_SECONDS = 20, 25.0


class _NoStorage(kopf.DiffBaseStorage):
    """kopf would copy each object to compare it with what it was, which is for handlers that are not used here."""

    def fetch(self, **_: Any) -> kopf.BodyEssence | None:
        return None

    def store(self, **_: Any) -> None:
        raise AssertionError("nothing is written to objects")

    def build(self, **_: Any) -> kopf.BodyEssence:
        return kopf.BodyEssence({})


def kopf_settings() -> kopf.OperatorSettings:
    """kopf, with all that it would do of its own turned off."""
    found = kopf.OperatorSettings()
    found.posting.enabled = False
    found.scanning.disabled = True
    found.persistence.diffbase_storage = _NoStorage()
    found.process.ultimate_exiting_timeout = None
    # A worker task stays for each object that changed, with the object.
    found.queueing.idle_timeout = 0.5
    found.watching.chunk_size = 500
    found.watching.connect_timeout = 3.0
    found.watching.server_timeout = _WATCH_SECONDS
    found.watching.inactivity_timeout = _SILENT_SECONDS
    found.networking.request_timeout = 30.0
    found.networking.error_backoffs = (0.5, 1.0, 2.0, 3.0)
    return found
