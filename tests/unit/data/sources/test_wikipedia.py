"""Wikipedia's dumps: which pages are articles, and multistream dumps cut and damaged anywhere."""

from __future__ import annotations

import bz2
import gzip
from collections.abc import Callable
from pathlib import Path

import pytest

from trainer.data.sources import Document, Part, Wikipedia
from trainer.errors import UserError

HEAD = """<mediawiki xmlns="http://www.mediawiki.org/xml/export-0.11/" xml:lang="de">
  <siteinfo>
    <namespaces>
      <namespace key="0" case="first-letter" />
      <namespace key="6" case="first-letter">Datei</namespace>
      <namespace key="14" case="first-letter">Kategorie</namespace>
    </namespaces>
  </siteinfo>
"""
PAGE = """  <page>
    <title>{title}</title>
    <ns>{ns}</ns>
    <id>1</id>{extra}
    <revision>
      <model>{model}</model>
      <text bytes="1" xml:space="preserve">{text}</text>
    </revision>
  </page>
"""


def page(title: str, text: str, *, ns: int = 0, extra: str = "", model: str = "wikitext") -> str:
    return PAGE.format(title=title, text=text, ns=ns, extra=extra, model=model)


ARTICLES = [
    page(f"Title {n}", f"'''Text''' number {n} " + "about the [[same]] things &amp;c. " * (n % 9)) for n in range(60)
]
TEXTS = [("Text number {} " + "about the same things &c. " * (n % 9)).format(n).strip() for n in range(60)]


def multistream(pages: list[str], per_stream: int = 5) -> bytes:
    """A dump as the Wikimedia Foundation packs it: head, groups of pages and foot are streams of their own."""
    groups = ["".join(pages[start : start + per_stream]) for start in range(0, len(pages), per_stream)]
    return b"".join(bz2.compress(piece.encode()) for piece in [HEAD, *groups, "</mediawiki>\n"])


def packed_in_blocks(pages: list[str], block_bytes: int) -> bytes:
    """A dump as parallel compressors pack it: streams end anywhere, inside of tags too."""
    raw = (HEAD + "".join(pages) + "</mediawiki>\n").encode()
    blocks = [raw[start : start + block_bytes] for start in range(0, len(raw), block_bytes)]
    return b"".join(map(bz2.compress, blocks))


def read(path: Path, edges: list[int] | None = None) -> list[Document]:
    """The documents of a file, cut at these bytes."""
    source = Wikipedia(type="wikipedia", path=str(path))
    if edges is None:
        return list(source.documents())
    parts = [Part("", 0, (str(path),), start, end) for start, end in zip([0, *edges], [*edges, None], strict=True)]
    return [document for part in parts for document in source.read(part)]


def texts(documents: list[Document]) -> list[str]:
    return [document.text for document in documents if document.text is not None]


PLAIN = (HEAD + "".join(ARTICLES) + "</mediawiki>\n").encode()


@pytest.mark.parametrize(
    "raw", [PLAIN, gzip.compress(PLAIN), bz2.compress(PLAIN), multistream(ARTICLES), packed_in_blocks(ARTICLES, 1000)]
)
def test_articles_come_as_text(tmp_path: Path, raw: bytes) -> None:
    (tmp_path / "dump.xml").write_bytes(raw)
    documents = read(tmp_path / "dump.xml")
    assert texts(documents) == TEXTS
    assert documents[7].name.endswith(" Title 7")
    assert documents[7].num_bytes == len(TEXTS[7])


@pytest.mark.parametrize(
    "raw", [PLAIN, multistream(ARTICLES), *(packed_in_blocks(ARTICLES, size) for size in (211, 1000, 5003))]
)
def test_every_cut_gives_each_page_once(tmp_path: Path, raw: bytes) -> None:
    path = tmp_path / "dump.xml"
    path.write_bytes(raw)
    whole = read(path)
    for edge in range(1, len(raw), len(raw) // 60):
        assert read(path, [edge]) == whole
    assert read(path, list(range(50, len(raw), 700))) == whole


def test_only_files_that_can_be_cut_are(tmp_path: Path) -> None:
    for name, raw in (
        ("a", PLAIN),
        ("b", multistream(ARTICLES)),
        ("c", bz2.compress(PLAIN)),
        ("d", gzip.compress(PLAIN)),
    ):
        (tmp_path / name).write_bytes(raw)
    parts = Wikipedia(type="wikipedia", path=str(tmp_path), part_bytes=500).parts()
    number = {name: len([part for part in parts if part.files[0].endswith(name)]) for name in "abcd"}
    assert number["a"] > 20
    assert number["b"] > 5
    assert (number["c"], number["d"]) == (1, 1)


def test_what_is_no_article_is_left_out(tmp_path: Path) -> None:
    pages = [
        page("Redirect", "#REDIRECT [[A]]", extra='<redirect title="A" />'),
        page("Talk:A", "talk", ns=1),
        page("Style", "a {}", model="css"),
        page("Nothing", "{{delete}}"),
        page("Files", "[[Datei:a.jpg|mini]][[Kategorie:B]]text"),
    ]
    (tmp_path / "dump.xml").write_bytes(multistream(pages))
    documents = read(tmp_path / "dump.xml")
    problems = [None if document.text else document.problem for document in documents]
    assert problems == ["left-out", "left-out", "left-out", "empty", None]
    assert documents[-1].text == "text"
    # Passing over a page is no fault that stops.
    stopping = Wikipedia(type="wikipedia", path=str(tmp_path), on_error="stop").documents()
    assert [next(stopping).problem for _ in range(3)] == ["left-out"] * 3
    with pytest.raises(UserError, match="Nothing is without text"):
        next(stopping)
    talk = Wikipedia(type="wikipedia", path=str(tmp_path), namespaces=(1,)).documents()
    assert texts(list(talk)) == ["talk"]


def test_the_last_revision_counts(tmp_path: Path) -> None:
    history = page("A", "old").replace("</page>", "<revision><text>new</text></revision></page>")
    (tmp_path / "dump.xml").write_text(HEAD + history)
    assert texts(read(tmp_path / "dump.xml")) == ["new"]


def test_a_page_that_cannot_be_read_costs_itself(tmp_path: Path) -> None:
    raw = (
        HEAD + page("A", "a") + page("B", "b < c") + page("C", "LATIN") + page("D", "x" * 5000) + page("E", "e")
    ).encode()
    (tmp_path / "dump.xml").write_bytes(raw.replace(b"LATIN", b"\xe9t\xe9"))
    source = Wikipedia(type="wikipedia", path=str(tmp_path), max_document_bytes=2000)
    found = [(document.text, document.problem) for document in source.documents()]
    assert found == [("a", None), (None, "malformed"), (None, "utf-8"), (None, "too-long"), ("e", None)]


@pytest.mark.parametrize("pack", [multistream, lambda pages: packed_in_blocks(pages, 1000)])
@pytest.mark.parametrize("edges", [[], [3000]])
def test_a_truncated_dump_gives_what_came_before(
    tmp_path: Path, pack: Callable[[list[str]], bytes], edges: list[int]
) -> None:
    raw = pack(ARTICLES)
    path = tmp_path / "dump.xml.bz2"
    path.write_bytes(raw[: len(raw) * 3 // 4])
    documents = read(path, edges)
    told = [document for document in documents if document.problem]
    assert [document.problem for document in told] == ["truncated"]
    assert told[0].name == f"{path}@{len(raw) * 3 // 4}"
    found = texts(documents)
    assert 30 < len(found) < 60
    assert found == TEXTS[: len(found)]


@pytest.mark.parametrize(("stream", "place"), [(0, 60), (1, 0), (1, 60), (4, 0), (4, 60), (12, 0), (12, 60)])
@pytest.mark.parametrize("cut_before", [None, 0, 1, 5])
def test_a_damaged_stream_costs_its_own_pages(tmp_path: Path, stream: int, cut_before: int | None, place: int) -> None:
    raw = multistream(ARTICLES)
    places = [place for place in range(len(raw)) if raw.startswith(b"BZh91AY&SY", place)]
    damaged = places[stream] + place
    path = tmp_path / "dump.xml.bz2"
    path.write_bytes(raw[:damaged] + bytes(20) + raw[damaged + 20 :])
    documents = read(path, [places[stream - cut_before]] if cut_before is not None and stream > cut_before else [])
    # The first stream is the head.
    assert texts(documents) == TEXTS[: max(0, stream - 1) * 5] + TEXTS[stream * 5 :]
    assert [document.problem for document in documents if document.problem] == ["malformed"]


def test_a_file_that_is_no_dump_is_told(tmp_path: Path) -> None:
    (tmp_path / "index.txt.bz2").write_bytes(bz2.compress(b"600:10:AccessibleComputing\n" * 100))
    assert [document.problem for document in read(tmp_path / "index.txt.bz2")] == ["malformed"]
