"""Books of Project Gutenberg: header and licence of all times are cut off, and nothing of the book."""

from __future__ import annotations

from pathlib import Path

import pytest

from trainer.data.sources import Gutenberg

BOOK = "CHAPTER I.\n\nIt was *** a night.\n\n  Indented “verse”."

TODAY = f"""\ufeffThe Project Gutenberg eBook of A Book

Title: A Book

*** START OF THE PROJECT GUTENBERG EBOOK A BOOK ***



Produced by Some One and the Online Distributed Proofreading
Team at https://www.pgdp.net

{BOOK}



*** END OF THE PROJECT GUTENBERG EBOOK A BOOK ***

START: FULL LICENSE
"""
LONG_AGO = f"""The Project Gutenberg Etext of A Book

*BEFORE!* YOU USE OR READ THIS ETEXT
*END*THE SMALL PRINT! FOR PUBLIC DOMAIN ETEXTS*Ver.04.29.93*END*

{BOOK}

End of The Project Gutenberg Etext of A Book
"""
BETWEEN = f"""Project Gutenberg's A Book, by An Author

***START OF THE PROJECT GUTENBERG EBOOK A BOOK, WITH A TITLE
THAT NEEDS TWO LINES***

E-text prepared by Some One

{BOOK}

End of Project Gutenberg's A Book, by An Author

***END OF THE PROJECT GUTENBERG EBOOK A BOOK***
"""
SMALL_PRINT_LAST = LONG_AGO.replace("*END*THE", "*** START OF THIS PROJECT GUTENBERG EBOOK A BOOK ***\n*END*THE") + (
    "*END THE SMALL PRINT! FOR PUBLIC DOMAIN EBOOKS*Ver.02/11/02*END*"
)


@pytest.mark.parametrize("content", [TODAY, LONG_AGO, BETWEEN, SMALL_PRINT_LAST])
@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_only_the_book_is_left(tmp_path: Path, content: str, line_end: str) -> None:
    (tmp_path / "1-0.txt").write_bytes(content.replace("\n", line_end).encode())
    (document,) = Gutenberg(type="gutenberg", path=str(tmp_path)).documents()
    assert document == (f"{tmp_path}/1-0.txt", BOOK, len(BOOK.encode()), None)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (BOOK.encode(), "malformed"),
        (TODAY[: TODAY.index("verse")].encode(), "truncated"),
        (TODAY.replace(BOOK, "").encode(), "empty"),
        (TODAY.replace("verse", "v" * 3000).encode(), "too-long"),
        (TODAY.encode("cp1252", errors="ignore"), "utf-8"),
        (
            TODAY.encode("cp1252", errors="ignore").replace(b"Title:", b"Character set encoding: klingon\nTitle:"),
            "utf-8",
        ),
    ],
)
def test_a_file_without_a_whole_book_says_why(tmp_path: Path, content: bytes, problem: str) -> None:
    (tmp_path / "1-0.txt").write_bytes(content)
    (document,) = Gutenberg(type="gutenberg", path=str(tmp_path), max_document_bytes=2000).documents()
    assert (document.text, document.problem) == (None, problem)


def test_older_files_name_their_encoding(tmp_path: Path) -> None:
    content = TODAY.removeprefix("\ufeff").replace("Title:", "Character set encoding: Windows-1252\nTitle:")
    (tmp_path / "1-8.txt").write_bytes(content.encode("cp1252"))
    (document,) = Gutenberg(type="gutenberg", path=str(tmp_path)).documents()
    assert document.text == BOOK
