"""A crawl of a real site, this Python's documentation of itself, recorded by warcio."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.servers import free_port, running
from trainer.data.sources import CommonCrawl, Document

PAGES = ["argparse", "json.decoder", "textwrap", "ast", "random", "heapq", "string", "shlex", "logging", "pathlib"]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """pydoc's own web server."""
    port = free_port()
    code = f"import pydoc, time; pydoc._start_server(pydoc._url_handler, '127.0.0.1', {port}).join()"
    with running([sys.executable, "-c", code], port, tmp_path_factory.mktemp("site") / "log"):
        yield f"http://127.0.0.1:{port}"


@pytest.fixture(scope="module")
def archive(site: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The crawl: for each page a request and a response."""
    path = tmp_path_factory.mktemp("crawl") / "crawl.warc.gz"
    # In a process of its own: recording patches http.client for good.
    urls = [f"{site}/{page}.html" for page in PAGES]
    command = [sys.executable, "-m", __name__, str(path), *urls]
    subprocess.run(command, check=True, timeout=120)
    return path


def read(path: Path) -> list[Document]:
    return list(CommonCrawl(type="common-crawl", path=str(path)).documents())


def test_pages_are_read_as_their_text(archive: Path, site: str) -> None:
    documents = read(archive)
    assert [document.problem for document in documents] == [None] * len(PAGES)
    assert [document.name.split(" ", 1)[1] for document in documents] == [f"{site}/{page}.html" for page in PAGES]
    for page, document in zip(PAGES, documents, strict=True):
        assert document.text is not None
        assert page in document.text
        assert "<" not in document.text.splitlines()[0]
    text = (documents[2].text or "").replace("\xa0", " ")
    assert "Text wrapping and filling." in text
    assert "Wrap a single paragraph of text, returning a list of wrapped lines." in text


def test_names_tell_where_warcio_finds_the_record(archive: Path) -> None:
    from warcio.archiveiterator import ArchiveIterator

    with archive.open("rb") as file:
        records = ArchiveIterator(file)
        offsets = [records.get_record_offset() for record in records if record.rec_type == "response"]
    assert [document.name.split(" ", 1)[0] for document in read(archive)] == [f"{archive}@{place}" for place in offsets]


def test_parts_hold_the_crawl_once(archive: Path) -> None:
    source = CommonCrawl(type="common-crawl", path=str(archive), part_bytes=archive.stat().st_size // 5 + 1)
    assert len(source.parts()) == 5
    assert list(source.documents()) == read(archive)


@pytest.mark.parametrize("share", [0.3, 0.9])
def test_a_crawl_that_was_cut_off_gives_what_came_before(archive: Path, tmp_path: Path, share: float) -> None:
    raw = archive.read_bytes()
    path = tmp_path / "cut.warc.gz"
    path.write_bytes(raw[: int(len(raw) * share)])
    *before, last = read(path)
    assert (last.problem, last.name) == ("truncated", f"{path}@{int(len(raw) * share)}")
    whole = [document.text for document in read(archive)]
    assert 0 < len(before) < len(PAGES)
    assert [document.text for document in before] == whole[: len(before)]


def _record(path: str, urls: list[str]) -> None:
    from warcio.capture_http import capture_http

    with capture_http(path):
        for url in urls:
            with contextlib.suppress(urllib.error.HTTPError), urllib.request.urlopen(url) as answer:
                answer.read()


if __name__ == "__main__":
    _record(sys.argv[1], sys.argv[2:])
