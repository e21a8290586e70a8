"""A web server that makes trouble, and a fetch that does not wait long."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.integration.data.troubled_web import TroubledWeb, troubled_web
from trainer.data.fetch import download
from trainer.data.fetch.config import FetchConfig
from trainer.data.fetch.listing import Wanted
from trainer.data.fetch.report import Report
from trainer.data.fetch.run import fetch

KIB = 1024
FIRST = 64 * KIB
PIECE = 96 * KIB

Bring = Callable[..., Report]


@pytest.fixture
def web() -> Iterator[TroubledWeb]:
    with troubled_web() as running:
        yield running


@pytest.fixture
def bring(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bring:
    """Fetch sources to tmp_path/out in small pieces; further arguments are settings, or parts of what is wanted."""
    monkeypatch.setattr(download, "FIRST_BYTES", FIRST)

    def run(*sources: str, output: str | None = None, dry_run: bool = False, **options: object) -> Report:
        wanted = {key: options.pop(key) for key in ("lists", "base", "checksums") if key in options}
        settings = {"piece_bytes": PIECE, "requests_per_second": 10_000, "retry_seconds": 20, **options}
        config = FetchConfig.model_validate(settings)
        return fetch(Wanted(sources, **wanted), output or str(tmp_path / "out"), config, dry_run=dry_run)

    return run
