"""A real dump of Wikipedia: its articles, the words of them, and the same dump packed in other ways."""

from __future__ import annotations

import bz2
import re
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import mwparserfromhell
import pytest

from tests.integration.data.sources.conftest import IN_UTF16
from trainer.data.sources import Document, Part, Wikipedia
from trainer.data.sources.wikitext import plain_text

WORD = re.compile(r"\w+")


@pytest.fixture(scope="module")
def documents(dump: Path) -> list[Document]:
    return list(Wikipedia(type="wikipedia", path=str(dump)).documents())


def test_articles_are_text_and_redirects_are_left_out(documents: list[Document]) -> None:
    assert Counter(document.problem for document in documents) == {None: 106, "left-out": 100}
    texts = {document.name.split(" ", 1)[1]: document.text or "" for document in documents if document.text}
    assert list(texts)[:4] == ["Anarchism", "Autism", "Albedo", "A"]
    assert texts["Autism"].startswith("Autism is a neurodevelopmental disorder characterized by impaired social")
    for title, text in texts.items():
        assert len(text) > 300, title
        assert not re.search(
            r"\[\[|\]\]|\{\||\|\}|<ref|</|''|^=|^\*|^\||&[a-z]+;|File:|Category:", text, re.MULTILINE
        ), title
    # Braces are left in formulas alone.
    braces = [line for text in texts.values() for line in text.splitlines() if "{{" in line]
    assert len(braces) < 20
    assert all("\\" in line for line in braces)


def test_words_are_those_of_a_whole_parser(dump: Path) -> None:
    agreement = []
    for wikitext in _wikitexts(dump)[:8]:
        ours = Counter(WORD.findall(plain_text(wikitext)))
        theirs = Counter(WORD.findall(_stripped(wikitext)))
        agreement.append((ours & theirs).total() / max(ours.total(), theirs.total()))
    # The parser keeps the attributes of tables, and headings without text.
    agreement.sort()
    assert agreement[0] > 0.8
    assert agreement[2] > 0.99
    assert agreement[5] > 0.998


def test_the_dump_packed_as_multistream_is_the_same_on_any_cut(
    dump: Path, documents: list[Document], tmp_path: Path
) -> None:
    pieces = re.split(rb"(?=  <page>)", bz2.decompress(dump.read_bytes()))
    groups = [b"".join(pieces[start : start + 20]) for start in range(1, len(pieces), 20)]
    path = tmp_path / "dump-multistream.xml.bz2"
    path.write_bytes(b"".join(bz2.compress(piece) for piece in [pieces[0], *groups]))
    source = Wikipedia(type="wikipedia", path=str(path), part_bytes=path.stat().st_size // 6 + 1)
    parts = source.parts()
    assert len(parts) == 6
    assert [document.text for document in source.documents()] == [document.text for document in documents]
    middle = path.stat().st_size // 2
    last = list(source.read(Part("", 0, (str(path),), middle)))
    assert [document.text for document in last] == [document.text for document in documents][-len(last) :]


def test_a_truncated_download_gives_what_came_before(dump: Path, documents: list[Document], tmp_path: Path) -> None:
    path = tmp_path / "dump.xml.bz2"
    path.write_bytes(dump.read_bytes()[:1_000_000])
    *before, last = Wikipedia(type="wikipedia", path=str(path)).documents()
    assert (last.name, last.problem) == (f"{path}@1000000", "truncated")
    assert len(before) > 50
    assert [document.text for document in before] == [document.text for document in documents][: len(before)]


def test_a_dump_in_another_encoding_is_told(gensim_samples: Path) -> None:
    source = Wikipedia(type="wikipedia", path=str(gensim_samples / IN_UTF16))
    assert [document.problem for document in source.documents()] == ["malformed"]


def _wikitexts(dump: Path) -> list[str]:
    root = ElementTree.fromstring(bz2.decompress(dump.read_bytes()))
    namespace = root.tag.partition("}")[0] + "}"
    pages = [page for page in root.iter(f"{namespace}page") if page.find(f"{namespace}redirect") is None]
    return [page.findtext(f"{namespace}revision/{namespace}text") or "" for page in pages]


def _stripped(wikitext: str) -> str:
    """What is left of an article without the same constructs, by its syntax tree."""
    tree = mwparserfromhell.parse(wikitext)
    dropped = ("ref", "references", "table", "gallery", "timeline", "score", "imagemap")
    for tag in tree.filter_tags(matches=lambda node: str(node.tag).lower() in dropped):
        _remove(tree, tag)
    for link in tree.filter_wikilinks(matches=lambda node: re.match(r"(?i)\s*(file|image|category):", str(node.title))):
        _remove(tree, link)
    for tag in tree.filter_tags(matches=lambda node: str(node.tag).lower() in ("math", "pre")):
        tree.replace(tag, str(tag.contents))
    return str(tree.strip_code(normalize=True, collapse=True))


def _remove(tree: Any, node: Any) -> None:
    with suppress(ValueError):  # it went with one that it was part of
        tree.remove(node)
