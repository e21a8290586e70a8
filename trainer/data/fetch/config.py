"""How files are fetched: parallelism, politeness, retries, and what counts as there already.

`trainer.cli.fetch` fills it from the command line; every other module of this package reads it.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from trainer.settings import Settings
from trainer.version import VERSION

MIB = 2**20


class FetchConfig(Settings):
    """All settings of one fetch."""

    streams: int = Field(default=8, ge=1, le=256)
    """Transfers at a time, over all files; large files take several."""
    requests_per_second: float = Field(default=20.0, gt=0)
    """Most requests to one web server each second; buckets are not limited."""
    bytes_per_second: float | None = Field(default=None, gt=0)
    """Most bytes each second, over all transfers; null is no limit."""
    piece_bytes: int = Field(default=64 * MIB, ge=1024)
    """Bytes of a large file that one request asks for."""
    retry_seconds: float = Field(default=300.0, gt=0)
    """Seconds without a new byte of a file, all of them spent trying, after which the file is given up."""
    timeout_seconds: float = Field(default=60.0, gt=0)
    """Seconds of silence after which a request to a web server is tried again."""
    contact: str | None = Field(default=None, min_length=3, pattern=r"^[\x21-\x7e]+$")
    """Mail address or URL that is sent in the User-Agent, for servers that want to know whom to ask."""
    mirrors: dict[str, str] = Field(default_factory=dict)
    """Beginning of a URL -> what to put in its place."""
    include: tuple[str, ...] = ()
    """Patterns (`*.gz`, `train/*`) of names to fetch; none takes all. `*` also matches `/`."""
    exclude: tuple[str, ...] = ()
    """Patterns of names to leave out."""
    compare: Literal["hash", "size"] = "hash"
    """When a file is there already: `hash` reads it wherever a hash is known, `size` goes by size and version alone."""
    on_error: Literal["stop", "skip"] = "stop"
    """A file that cannot be had: end at once, or count it and go on with the others."""

    @property
    def user_agent(self) -> str:
        """What web servers are told of us."""
        return f"gpt-run/{VERSION} ({self.contact})" if self.contact else f"gpt-run/{VERSION}"
