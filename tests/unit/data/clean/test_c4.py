"""C4's rules: each line and document rule, and against datatrove's filter on real text with the same sentences."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from trainer.data.clean.base import Drop
from trainer.data.clean.c4 import C4, num_sentences
from trainer.data.corpus import help_topics, library_files
from trainer.errors import UserError

GOOD = "\n".join(f"This is a sentence with number {number} in it." for number in range(6))


def c4(text: str, **settings: Any) -> str | Drop:
    return C4(type="c4", **settings).apply(text)


@pytest.mark.parametrize(
    ("line", "setting"),
    [
        ("A headline without an end", {"terminal_punctuation": False}),
        ("This one trails off...", {"terminal_punctuation": False}),
        ("Two words.", {"min_words_per_line": None}),
        ("A " + "long" * 300 + " word stands here.", {"max_word_length": None}),
        ("Please enable Javascript to go on.", {"javascript": False}),
        ("By going on you accept our Privacy Policy.", {"policy": False}),
    ],
)
def test_lines_go_by_rule(line: str, setting: dict[str, Any]) -> None:
    assert c4(f"{GOOD}\n  {line}\n") == GOOD
    assert c4(f"{GOOD}\n  {line}\n", **setting) == f"{GOOD}\n{line}"


@pytest.mark.parametrize(
    ("line", "rule", "setting"),
    [
        ("Lorem ipsum dolor sit amet.", "lorem-ipsum", {"lorem_ipsum": False}),
        ("A function f() { return 1; } stands here.", "curly-bracket", {"curly_bracket": False}),
    ],
)
def test_documents_go_by_rule(line: str, rule: str, setting: dict[str, Any]) -> None:
    assert c4(f"{GOOD}\n{line}") == Drop(f"c4.{rule}")
    assert c4(f"{GOOD}\n{line}", **setting) == f"{GOOD}\n{line}"
    assert f"c4.{rule}" in C4(type="c4").rules()


def test_too_few_sentences_and_nothing_left() -> None:
    short = "\n".join(GOOD.split("\n")[:4])
    assert c4(short) == Drop("c4.sentences")
    assert c4(short, min_sentences=4) == short
    assert c4("no sentence here", min_sentences=None) == Drop("c4.empty")


def test_citation_marks_go() -> None:
    assert c4(f"{GOOD}\nA claim[1] is made[citation needed] here.[23]") == f"{GOOD}\nA claim is made here."


@pytest.mark.parametrize(
    ("line", "number"),
    [
        ("One.", 1),
        ("One. Two! Three?", 3),
        ('"One." She said "two."', 2),
        ("This is e.g. one at 3.5 percent.", 1),
        ("What?! No... yes.", 2),
        ("One. And a rest", 2),
        ("none", 1),
    ],
)
def test_sentences_are_counted(line: str, number: int) -> None:
    assert num_sentences(line) == number


def test_bad_words_come_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "words.txt"
    path.write_text("rude\nvery impolite\n\n")
    settings = {"bad_words": str(path)}
    assert c4(f"{GOOD}\nThat was RUDE of you.", **settings) == Drop("c4.bad-words")
    assert c4(f"{GOOD}\nThat was very impolite of you.", **settings) == Drop("c4.bad-words")
    assert isinstance(c4(f"{GOOD}\nThat was crude of you.", **settings), str)
    assert C4(type="c4", **settings).method() != C4(type="c4").method()
    assert "c4.bad-words" in C4(type="c4", **settings).rules()


@pytest.mark.parametrize("content", [None, b"", b"\xff\xfe"])
def test_a_bad_file_of_words_is_an_error(content: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "words.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=r"words\.txt"):
        c4(GOOD, bad_words=str(path))


def test_verdicts_are_those_of_datatrove(monkeypatch: pytest.MonkeyPatch) -> None:
    module = pytest.importorskip(
        "datatrove.pipeline.filters.c4_filters", reason="datatrove, the oracle, is not installed"
    )
    data = pytest.importorskip("datatrove.data")
    monkeypatch.setattr(module, "split_into_sentences", lambda text, language: [""] * num_sentences(text))
    theirs = module.C4QualityFilter()
    names = {"lorem_ipsum": "lorem-ipsum", "curly_bracket": "curly-bracket", "too_few_sentences": "sentences"}
    files = (path.read_text(encoding="utf-8", errors="replace") for _, path in library_files()[:200])
    # Files have curly brackets nearly all; without them the other rules are seen.
    texts = [text for file in files for text in (file, file.replace("{", ""))] + [text for _, text in help_topics()]
    seen = set()
    for text in texts:
        document = data.Document(text=text, id="0")
        result = theirs.filter(document)
        expected = document.text if result is True else Drop(f"c4.{names[result[1]]}")
        verdict = c4(text)
        assert verdict == expected
        seen.add(verdict.rule if isinstance(verdict, Drop) else "")
    assert seen >= {"", "c4.sentences", "c4.curly-bracket"}
