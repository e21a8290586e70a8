"""A document of a gigabyte is passed over without being held, whatever it comes in."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from backports import zstd

GIGABYTE = 1_000_000_000
# More than any reader takes for its pieces, and far below what holding one of these documents would.
ALLOWED_BYTES = 60_000_000

CODE = """
import json, sys
from pydantic import TypeAdapter
from trainer.data.sources import TextSource
from trainer.metrics.resident import peak_resident_bytes
source = TypeAdapter(TextSource).validate_python(json.loads(sys.argv[1]))
warm = TypeAdapter(TextSource).validate_python(json.loads(sys.argv[2]))
list(warm.documents())
before = peak_resident_bytes()
found = [[document.problem or document.text, document.num_bytes] for document in source.documents()]
print(json.dumps({"found": found, "grew": peak_resident_bytes() - before}))
"""


def sparse(path: Path, head: bytes, num_zeros: int, tail: bytes) -> None:
    """A file with zeros in it that take no room."""
    with path.open("wb") as file:
        file.write(head)
        file.seek(num_zeros, 1)
        file.write(tail)


def jsonl(path: Path, num_bytes: int) -> None:
    sparse(path, b'{"text": "before"}\n{"text": "', num_bytes, b'"}\n{"text": "after"}\n')


def packed_jsonl(path: Path, num_bytes: int) -> None:
    compressor = zstd.ZstdCompressor(level=1)
    with path.open("wb") as file:
        file.write(compressor.compress(b'{"text": "before"}\n{"text": "'))
        for _ in range(100):
            file.write(compressor.compress(bytes(num_bytes // 100)))
        file.write(compressor.compress(b'"}\n{"text": "after"}\n') + compressor.flush())


def wikipedia(path: Path, num_bytes: int) -> None:
    page = "<page><title>T</title><ns>0</ns><revision><text>{}</text></revision></page>"
    start, end = page.format("X").split("X")
    sparse(
        path, f"<mediawiki>{page.format('before')}{start}".encode(), num_bytes, f"{end}{page.format('after')}".encode()
    )


def warc(path: Path, num_bytes: int) -> None:
    head = b"WARC/1.0\r\nWARC-Type: conversion\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n"
    before, after = head % 6 + b"before\r\n\r\n", b"\r\n\r\n" + head % 5 + b"after\r\n\r\n"
    sparse(path, before + head % num_bytes, num_bytes, after)


@pytest.mark.parametrize(
    ("kind", "write", "num_bytes"),
    [
        ("jsonl", jsonl, GIGABYTE // 8),
        ("jsonl", packed_jsonl, GIGABYTE),
        ("wikipedia", wikipedia, GIGABYTE // 8),
        ("common-crawl", warc, GIGABYTE // 8),
    ],
)
def test_a_document_that_is_too_long_is_not_held(
    kind: str, write: Callable[[Path, int], None], num_bytes: int, tmp_path: Path
) -> None:
    write(tmp_path / "large", num_bytes)
    (tmp_path / "small").write_bytes(b"")
    settings = {"type": kind, "max_document_bytes": 1_000_000, "part_bytes": 1 << 40}
    arguments = [json.dumps(settings | {"path": str(tmp_path / name)}) for name in ("large", "small")]
    result = subprocess.run([sys.executable, "-c", CODE, *arguments], capture_output=True, text=True, check=True)
    said = json.loads(result.stdout)
    (before, _), (problem, told_bytes), (after, _) = said["found"]
    assert (before, problem, after) == ("before", "too-long", "after")
    assert num_bytes <= told_bytes < num_bytes + 1000
    assert said["grew"] < ALLOWED_BYTES
