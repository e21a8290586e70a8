"""The report on a terminal: it fits, it holds the figures, and what comes from data acts on nothing."""

from __future__ import annotations

from io import StringIO
from pathlib import Path

import numpy as np
import pytest
from rich.cells import cell_len
from rich.console import Console

from trainer.data.inspect import Report, inspect_data
from trainer.data.inspect.text import print_report
from trainer.data.inspect.wording import token_word
from trainer.pages.wording import percent, size, visible


def printed(report: Report, width: int = 80) -> str:
    out = StringIO()
    print_report(report, Console(file=out, width=width, force_terminal=False))
    return out.getvalue()


def test_all_parts_are_there_and_fit_into_80_columns(prepared: Path) -> None:
    report = inspect_data(str(prepared), verify=True)
    text = printed(report)
    assert max(cell_len(line) for line in text.splitlines()) <= 80
    for split in report.splits:
        assert f"{split.tokens:,}" in text
        assert f"{split.name}: all tokens" in text
    assert "Filters: 60 of 61 documents stay (98.4%)" in text
    assert "4 of" in text
    assert "5 times" in text
    assert "<|endoftext|>" in text
    assert "0 of 300" not in text
    assert "--full" not in text
    assert max(cell_len(line) for line in printed(report, 300).splitlines()) <= 100


def test_text_of_documents_does_not_act(prepared: Path) -> None:
    text = printed(inspect_data(str(prepared), samples=60))
    assert r"\x1b[31mred\u202e [bold]not markup[/bold]" in text
    assert "\x1b" not in text
    assert "\u202e" not in text


def test_a_sample_is_said_to_be_one(prepared: Path) -> None:
    text = printed(inspect_data(str(prepared), split="train", sampled_tokens=3000))
    assert "train: a sample: 1 of" in text
    assert "--full reads all" in text


def test_a_raw_file_and_an_empty_split(tmp_path: Path, write_set) -> None:
    np.arange(100).astype("<u2").tofile(tmp_path / "t.bin")
    text = printed(inspect_data(str(tmp_path / "t.bin")))
    assert "raw token files" in " ".join(text.split())
    assert "0 1 2 3" in text
    write_set(tmp_path / "set", train=[10], validation=[])
    assert "nothing: empty" in printed(inspect_data(str(tmp_path / "set")))


@pytest.mark.parametrize(
    ("share", "words"),
    [(0.0, "0.00%"), (1e-6, "<0.01%"), (0.0123, "1.23%"), (0.5, "50.0%"), (0.99999, ">99.99%"), (1.0, "100.0%")],
)
def test_shares_never_hide_a_rest(share: float, words: str) -> None:
    assert percent(share) == words


def test_sizes_and_tokens_are_readable() -> None:
    assert [size(n) for n in (999, 1500, 20_000_000, 3 * 10**12)] == ["999 B", "1.5 kB", "20.0 MB", "3.0 TB"]
    assert (token_word(" \n"), token_word("\x1b"), token_word(None)) == (r'" \n"', r'"\u001b"', "")
    assert visible("a\tb\r\nc\rd\x00") == "a\tb\nc\\rd\\x00"
