"""Sources read from where they are: a web server that breaks off, an object store, the Hugging Face Hub."""

from __future__ import annotations

import bz2
import gzip
import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import TypeAdapter

from tests.integration.data.hub import REPOSITORY, serve_dataset, use_hub
from tests.integration.data.troubled_web import Manner, TroubledWeb, troubled_web
from tests.integration.servers import Server
from trainer.data.sources import TextSource
from trainer.data.sources.base import Document, Source
from trainer.errors import UserError

# What reads an error's HTTP status asks aiohttp for it by its old name too.
pytestmark = pytest.mark.filterwarnings("ignore:code property is deprecated:DeprecationWarning")

TEXTS = [f"text {number} " + f"word{number} " * (number % 50) for number in range(2000)]
JSONL = b"".join(json.dumps({"text": text}).encode() + b"\n" for text in TEXTS)
XML = "".join(
    f"<page><title>{n}</title><ns>0</ns><revision><text>{text}</text></revision></page>\n"
    for n, text in enumerate(TEXTS)
)
WET = b"".join(
    gzip.compress(
        b"WARC/1.0\r\nWARC-Type: conversion\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n%b\r\n\r\n"
        % (len(text), text.encode())
    )
    for text in TEXTS
)


def parquet() -> bytes:
    file = io.BytesIO()
    pq.write_table(pa.table({"text": TEXTS}), file, row_group_size=300)
    return file.getvalue()


FILES = {
    "jsonl": ("a.jsonl", JSONL),
    "text": ("a.txt", "".join(TEXTS).encode()),
    "parquet": ("a.parquet", parquet()),
    "wikipedia": (
        "a.xml.bz2",
        b"".join(bz2.compress(part) for part in (b"<mediawiki>", XML.encode(), b"</mediawiki>")),
    ),
    "common-crawl": ("a.wet.gz", WET),
}


def source(kind: str, path: str) -> Source:
    settings = {"type": kind, "path": path, "part_bytes": 50_000}
    made: Source = TypeAdapter(TextSource).validate_python(settings)
    return made


def unnamed(documents: Iterator[Document]) -> list[tuple[str | None, int, str | None]]:
    return [document[1:] for document in documents]


@pytest.fixture
def web() -> Iterator[TroubledWeb]:
    with troubled_web() as running:
        yield running


@pytest.mark.parametrize("kind", FILES)
def test_files_in_a_bucket_are_read_like_local_ones(
    kind: str, tmp_path: Path, start_server: Callable[[str], Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    server = start_server("s3")
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    name, content = FILES[kind]
    (tmp_path / name).write_bytes(content)
    store = fsspec.filesystem("s3", skip_instance_cache=True)
    store.pipe(f"bucket/sources/{kind}/{name}", content)
    local, remote = source(kind, str(tmp_path / name)), source(kind, f"{server.url}/sources/{kind}")
    assert [(part.num_bytes, part.start, part.end) for part in remote.parts()] == [
        (part.num_bytes, part.start, part.end) for part in local.parts()
    ]
    assert unnamed(remote.documents()) == unnamed(local.documents())
    before = remote.fingerprint()
    assert before == remote.fingerprint()
    store.pipe(f"bucket/sources/{kind}/{name}", content[:-1] + bytes([content[-1] ^ 1]))
    fsspec.filesystem("s3").invalidate_cache()
    assert remote.fingerprint() != before


@pytest.mark.parametrize("kind", FILES)
@pytest.mark.parametrize("manner", ["whole", "cut", "unavailable"])
def test_a_web_server_that_breaks_off_costs_no_byte(
    kind: str, manner: str, tmp_path: Path, web: TroubledWeb, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, content = FILES[kind]
    (tmp_path / name).write_bytes(content)
    url = web.put(f"/{name}", content)
    remote = source(kind, url)
    parts = remote.parts()
    assert len(parts) == len(source(kind, str(tmp_path / name)).parts())
    if manner == "cut":
        web.manners[f"/{name}"] = Manner(cut_after=20_000, cuts=2)
    if manner == "unavailable":
        web.manners[f"/{name}"] = Manner(answers=[(503, {}), (429, {})])
    found = [document for part in parts for document in remote.read(part)]
    assert unnamed(iter(found)) == unnamed(source(kind, str(tmp_path / name)).documents())


def test_a_file_without_a_known_size_is_read_from_front_to_end(web: TroubledWeb) -> None:
    packed = gzip.compress(JSONL)
    url = web.put("/a.jsonl.gz", packed, Manner(ranges=False, framing="chunked"))
    assert [document.text for document in source("jsonl", url).documents()] == TEXTS


def test_a_data_set_of_the_hub_is_read_from_there(web: TroubledWeb, monkeypatch: pytest.MonkeyPatch) -> None:
    use_hub(web, monkeypatch)
    lines = b'{"body": "one"}\n{"body": "two"}\n'
    serve_dataset(web, {"README.md": b"# Texts", "data/a.parquet": parquet(), "data/b.jsonl": lines}, commit="1" * 40)
    top = [{"type": "directory", "path": "data", "oid": "0" * 40}]
    web.put(
        f"/api/datasets/{REPOSITORY}/tree/{'1' * 40}", json.dumps(top).encode(), Manner(media_type="application/json")
    )

    def of(**settings: str) -> Source:
        made: Source = TypeAdapter(TextSource).validate_python({"type": "hf", "dataset": REPOSITORY, **settings})
        return made

    texts = of(files="data/*.parquet")
    assert [document.text for document in texts.documents()] == TEXTS
    assert texts.record() == {"type": "hf", "dataset": REPOSITORY, "files": "data/*.parquet"}
    lines_only = of(files="data/b.jsonl", field="body")
    assert [document.text for document in lines_only.documents()] == ["one", "two"]
    assert lines_only.fingerprint() != of(files="data/b.jsonl").fingerprint()
    with pytest.raises(UserError, match="several formats"):
        of(files="data/*").parts()
    with pytest.raises(UserError, match="someone/nothing, revision main: 404"):
        of(files="data/*.parquet", dataset="someone/nothing").parts()
    web.not_found_headers = {"X-Error-Code": "EntryNotFound"}
    with pytest.raises(UserError, match="no files at hf://datasets/"):
        of(files="none/*.parquet").parts()
