"""Web archives: which records are pages, and archives that are cut, damaged and packed in every way."""

from __future__ import annotations

import gzip
import sys
import zlib
from pathlib import Path

import pytest

from trainer.data.sources import CommonCrawl, Document, Part
from trainer.errors import UserError

PARAGRAPH = "This is the text of page {0}, which is long enough to be taken for its main text and not for a menu. " * 4
PAGE = (
    "<html><head><title>T</title></head><body><nav><a href=/>Home</a> <a href=/b>Menu</a></nav>"
    f"<article><h1>Page {{0}}</h1><p>{PARAGRAPH}</p></article><footer>Imprint</footer></body></html>"
)


def record(
    kind: str, block: bytes, *, uri: str = "http://x.org/", content_type: str = "text/plain", more: str = ""
) -> bytes:
    head = f"WARC/1.0\r\nWARC-Type: {kind}\r\nWARC-Target-URI: {uri}\r\nContent-Type: {content_type}\r\n{more}"
    return f"{head}Content-Length: {len(block)}\r\n\r\n".encode() + block + b"\r\n\r\n"


def response(
    body: bytes, *, status: str = "200 OK", kind: str = "text/html", headers: str = "", uri: str = "http://x.org/"
) -> bytes:
    answer = f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\n{headers}\r\n".encode() + body
    return record("response", answer, uri=uri, content_type="application/http; msgtype=response")


INFO = record("warcinfo", b"software: x\r\n", content_type="application/warc-fields")
REQUEST = record("request", b"GET / HTTP/1.1\r\n\r\n", content_type="application/http; msgtype=request")
PAGES = [response(PAGE.format(n).encode(), uri=f"http://x.org/{n}") for n in range(12)]
ARCHIVE = [INFO, *(piece for page in PAGES for piece in (REQUEST, page))]
MEMBERS = [gzip.compress(piece) for piece in ARCHIVE]


def read(path: Path, edges: list[int] | None = None, **settings: int) -> list[Document]:
    source = CommonCrawl(type="common-crawl", path=str(path), **settings)
    if edges is None:
        return list(source.documents())
    parts = [Part("", 0, (str(path),), start, end) for start, end in zip([0, *edges], [*edges, None], strict=True)]
    return [document for part in parts for document in source.read(part)]


def numbers(documents: list[Document]) -> list[int]:
    """The numbers of the pages, as their texts say."""
    return [int(document.text.split("page ")[1].split(",")[0]) for document in documents if document.text]


@pytest.mark.parametrize("raw", [b"".join(MEMBERS), b"".join(ARCHIVE), gzip.compress(b"".join(ARCHIVE))])
def test_pages_come_as_text(tmp_path: Path, raw: bytes) -> None:
    (tmp_path / "a.warc").write_bytes(raw)
    documents = read(tmp_path / "a.warc")
    assert numbers(documents) == list(range(12))
    assert documents[3].name.endswith(" http://x.org/3")
    assert documents[3].text is not None
    assert PARAGRAPH.format(3).strip() in documents[3].text
    assert not {"Menu", "Imprint"} & set(documents[3].text.split())


def test_all_text_of_a_page_can_be_had(tmp_path: Path) -> None:
    (tmp_path / "a.warc").write_bytes(PAGES[0])
    (document,) = read(tmp_path / "a.warc", main_text_only=False)
    assert document.text is not None
    assert {"Menu", "Imprint"} <= set(document.text.split())


@pytest.mark.parametrize("raw", [b"".join(MEMBERS), gzip.compress(b"".join(ARCHIVE))])
def test_every_cut_gives_each_page_once(tmp_path: Path, raw: bytes) -> None:
    path = tmp_path / "a.warc.gz"
    path.write_bytes(raw)
    whole = read(path)
    for edge in range(1, len(raw), len(raw) // 50):
        assert read(path, [edge]) == whole
    assert read(path, list(range(40, len(raw), 300))) == whole


def test_only_archives_of_members_are_cut(tmp_path: Path) -> None:
    for name, raw in (("a", b"".join(MEMBERS)), ("b", b"".join(ARCHIVE)), ("c", gzip.compress(b"".join(ARCHIVE)))):
        (tmp_path / name).write_bytes(raw)
    parts = CommonCrawl(type="common-crawl", path=str(tmp_path), part_bytes=500).parts()
    number = {name: len([part for part in parts if part.files[0].endswith(name)]) for name in "abc"}
    assert number["a"] > 5
    assert (number["b"], number["c"]) == (1, 1)


@pytest.mark.parametrize(
    ("raw", "problem"),
    [
        (response(b"gone", status="404 Not Found"), "left-out"),
        (response(b"\x89PNG", kind="image/png"), "left-out"),
        (response(b"<p></p>"), "empty"),
        (record("conversion", b"caf\xe9"), "utf-8"),
        (response(b"<p>" + b"x" * 3000), "too-long"),
        (response(zlib.compress(bytes(9000)), headers="Content-Encoding: deflate\r\n"), "too-long"),
        (response(b"no chunk", headers="Transfer-Encoding: chunked\r\n"), "malformed"),
        (b"<html>no archive</html>" * 10, "malformed"),
        (b"WARC/1.0\r\nWARC-Type: response\r\n\r\nno length", "malformed"),
        (PAGES[0][:300], "truncated"),
        (PAGES[0][:30], "truncated"),
        (response(b"<p>" + b"x" * 3000)[:2900], "truncated"),
    ],
)
def test_a_record_without_a_page_says_why(tmp_path: Path, raw: bytes, problem: str) -> None:
    path = tmp_path / "a.warc"
    path.write_bytes(PAGES[7] + raw)
    documents = read(path, max_document_bytes=2000)
    assert [document.problem for document in documents] == [None, problem]
    assert documents[1].name.startswith(f"{path}@{len(PAGES[7])}")


@pytest.mark.parametrize(
    ("page", "kind"),
    [
        (b"<p>{}", "text/html"),
        ('<meta charset="windows-1251"><p>{}', "text/html"),
        ("<p>{}", "text/html; charset=windows-1251"),
        ("<p>{}", "application/xhtml+xml; charset=nonsense"),
    ],
)
def test_pages_are_decoded_by_what_they_are(tmp_path: Path, page: str | bytes, kind: str) -> None:
    text = "Это обычный текст на русском языке, в котором есть несколько слов и предложений."
    body = page.replace(b"{}", text.encode()) if isinstance(page, bytes) else page.replace("{}", text).encode("cp1251")
    (tmp_path / "a.warc").write_bytes(response(body, kind=kind))
    (document,) = read(tmp_path / "a.warc")
    assert document.text == text


def test_what_a_server_packed_is_unpacked(tmp_path: Path) -> None:
    body = gzip.compress(PAGE.format(5).encode())
    chunked = b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)
    raw = response(chunked, headers="Transfer-Encoding: chunked\r\nContent-Encoding: gzip\r\n")
    (tmp_path / "a.warc").write_bytes(raw)
    assert numbers(read(tmp_path / "a.warc")) == [5]


def test_text_that_is_ready_is_taken(tmp_path: Path) -> None:
    raw = INFO + record("conversion", "WET töxt".encode()) + record("resource", b"<p>page", content_type="text/html")
    (tmp_path / "a.wet").write_bytes(raw + b"\r\n\r\n")
    assert [document.text for document in read(tmp_path / "a.wet")] == ["WET töxt", "page"]


@pytest.mark.parametrize("edges", [[], [1000]])
def test_a_truncated_archive_gives_what_came_before(tmp_path: Path, edges: list[int]) -> None:
    path = tmp_path / "a.warc.gz"
    # In the middle of the last page's member, and in that of the request before it.
    for kept, cut in ((MEMBERS[:-1], MEMBERS[-1][:-30]), (MEMBERS[:-2], MEMBERS[-2][:40])):
        path.write_bytes(b"".join(kept) + cut)
        documents = read(path, edges)
        assert numbers(documents) == list(range(11))
        assert [(d.problem, d.name) for d in documents if d.problem] == [
            ("truncated", f"{path}@{len(b''.join(kept) + cut)}")
        ]
    with pytest.raises(UserError, match=r"a\.warc\.gz@\d+ is cut off"):
        list(CommonCrawl(type="common-crawl", path=str(path), on_error="stop").documents())


@pytest.mark.parametrize("number", [2, 12, 24])
@pytest.mark.parametrize("cut_before", [None, 0, 1])
@pytest.mark.parametrize("place", [0, 20, 60, -8])
def test_a_damaged_member_costs_its_own_record(tmp_path: Path, number: int, cut_before: int | None, place: int) -> None:
    place %= len(MEMBERS[number])
    broken = MEMBERS[number][:place] + b"\xff" * 8 + MEMBERS[number][place + 8 :]
    path = tmp_path / "a.warc.gz"
    path.write_bytes(b"".join([*MEMBERS[:number], broken, *MEMBERS[number + 1 :]]))
    documents = read(path, [] if cut_before is None else [len(b"".join(MEMBERS[: number - cut_before]))])
    assert numbers(documents) == [page for page in range(12) if page != number // 2 - 1]
    assert [document.problem for document in documents if document.problem] == ["malformed"]


def test_missing_packages_name_their_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.warc").write_bytes(PAGES[0])
    monkeypatch.setitem(sys.modules, "resiliparse", None)
    with pytest.raises(UserError, match="web archives") as caught:
        read(tmp_path / "a.warc")
    assert "gpt-run[data]" in caught.value.fix
