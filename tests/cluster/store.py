"""A bucket on the S3 server that pods and tests share, and what a run has left in it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from itertools import pairwise
from typing import Any

import fsspec

SECRET = "store"  # pragma: allowlist secret


@dataclass(frozen=True)
class S3:
    """An S3 server, at an address that pods and tests both reach."""

    endpoint: str
    access_key: str
    secret_key: str

    @cached_property
    def filesystem(self) -> fsspec.AbstractFileSystem:
        """A client that never answers from memory."""
        return fsspec.filesystem(
            "s3",
            key=self.access_key,
            secret=self.secret_key,
            endpoint_url=self.endpoint,
            config_kwargs={"region_name": "us-east-1"},
            use_listings_cache=False,
            skip_instance_cache=True,
        )

    def environment(self) -> dict[str, str]:
        """What clients read, in pods and here."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_DEFAULT_REGION": "us-east-1",
        }

    def secret(self) -> dict[str, Any]:
        """The Secret with that environment."""
        metadata = {"name": SECRET}
        return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": self.environment()}


@dataclass(frozen=True)
class Store:
    """The store of one run: a folder of a bucket."""

    s3: S3
    bucket: str
    run: str

    @property
    def url(self) -> str:
        """What `checkpoint.store` is set to."""
        return f"s3://{self.bucket}/runs"

    def steps(self, attempt: str = "*") -> dict[int, float]:
        """Loss by step; of a step that was done twice, the later."""
        return {record["step"]: record["loss"] for record in self.records(attempt)}

    def records(self, attempt: str = "*") -> list[dict[str, Any]]:
        """Lines of training.jsonl that tell of a step, in order."""
        paths = self._paths(f"logs/{attempt}/training-*.jsonl")
        return figures(line for path in paths for line in self.s3.filesystem.cat_file(path).decode().splitlines())

    def resumed(self, attempt: str, later: str) -> tuple[float, int]:
        """(seconds from the last step of an attempt to the first of a later one, steps done again)."""
        return resumed(self.records(attempt), self.records(later))

    def checkpoints(self) -> list[dict[str, Any]]:
        """COMMITTED.json of all committed checkpoints, by step."""
        found = [json.loads(self.s3.filesystem.cat_file(path)) for path in self._paths("checkpoints/*/COMMITTED.json")]
        return sorted(found, key=lambda committed: int(committed["step"]))

    def claims(self) -> list[dict[str, Any]]:
        """The attempts' claims, in order."""
        return [json.loads(self.s3.filesystem.cat_file(path)) for path in self._paths("attempts/*.json")]

    def _paths(self, pattern: str) -> list[str]:
        return sorted(self.s3.filesystem.glob(f"{self.bucket}/runs/{self.run}/{pattern}"))


def figures(lines: Iterable[str]) -> list[dict[str, Any]]:
    """Those lines of a log that tell of a step."""
    found = [json.loads(line) for line in lines if line.startswith("{")]
    return [record for record in found if "step" in record and "loss" in record]


def resumed(before: Sequence[dict[str, Any]], after: Sequence[dict[str, Any]]) -> tuple[float, int]:
    """(seconds from the last step of an attempt to the first of a later one, steps done again)."""
    return pauses([before[-1], after[0]])[0], before[-1]["step"] + 1 - after[0]["step"]


def pauses(records: Sequence[dict[str, Any]]) -> list[float]:
    """Seconds from each step to the one after it."""
    times = [datetime.fromisoformat(record["time"]) for record in records]
    return [(later - earlier).total_seconds() for earlier, later in pairwise(times)]
