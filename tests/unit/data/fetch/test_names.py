"""Which names may be stored, which are wanted, and what a folder's page links to."""

from __future__ import annotations

import pytest

from trainer.data.fetch.config import FetchConfig
from trainer.data.fetch.names import check_names, is_wanted, last_part, links
from trainer.data.remote import is_hidden
from trainer.errors import UserError


@pytest.mark.parametrize(
    ("names", "found"),
    [
        (["../etc/passwd"], "cannot be stored"),
        (["a/../../b"], "cannot be stored"),
        (["/etc/passwd"], "cannot be stored"),
        (["a//b"], "cannot be stored"),
        ([""], "cannot be stored"),
        (["a/."], "cannot be stored"),
        (["a\0b"], "cannot be stored"),
        ([".fetch/journal.jsonl"], "cannot be stored"),
        (["a", "b", "a"], "is there twice"),
        (["a/b/c", "a/b"], "is a file and a folder"),
    ],
)
def test_names_that_cannot_be_stored_are_refused(names: list[str], found: str) -> None:
    with pytest.raises(UserError, match=found):
        check_names(names)


def test_ordinary_names_pass() -> None:
    check_names(["a", "b/a", "b/c/a", ".hidden", "SHA256SUMS", "b c/d&e", "x/.fetch"])


def test_patterns_choose() -> None:
    config = FetchConfig(include=("*.gz", "train/*"), exclude=("*bad*",))
    assert [name for name in ("a.gz", "x/a.gz", "train/t", "a.txt", "bad.gz") if is_wanted(name, config)] == [
        "a.gz",
        "x/a.gz",
        "train/t",
    ]


def test_hidden_and_last_parts() -> None:
    assert [is_hidden(name) for name in ("a/b", ".a", "a/.b/c")] == [False, True, True]
    assert last_part("https://h/a/na%20me.gz?sig=1/2") == "na me.gz"
    assert last_part("https://h/o/x%2Fy.gz") == "y.gz"


def test_links_of_a_page_are_resolved_as_a_browser_would() -> None:
    html = """<a href="?C=M;O=D">sort</a> <a href="../">up</a> <a name="x">no target</a> <a href="#top">top</a>
    <A HREF="a&amp;b.txt">x</A> <a href='sub/'>y</a> <a href="/rooted/z">z</a> <a href="https://other/w">w</a>
    <a href="mailto:a@b">m</a> <img src="pic.png">"""
    assert links(html, "http://h/data/") == [
        "http://h/",
        "http://h/data/a&b.txt",
        "http://h/data/sub/",
        "http://h/rooted/z",
        "https://other/w",
        "mailto:a@b",
    ]
