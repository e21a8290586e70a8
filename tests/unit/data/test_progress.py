"""Progress on a terminal and without one."""

from __future__ import annotations

import io

from rich.console import Console

from trainer.data.progress import LINE_SECONDS, Display


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_lines_name_files_and_totals_now_and_then() -> None:
    clock, out = Clock(), io.StringIO()
    with Display("fetch", 6, Console(file=out), clock) as display:
        display.expect({"a": 4_000_000, "b": 1_000_000})
        display.start("a", 4_000_000, 1_000_000)
        display.advance("a", 1_000_000)
        for name in ("[b]", "c", "d", "e"):
            display.start(name, None, 0)
        assert out.getvalue() == ""
        clock.now = LINE_SECONDS
        display.advance("[b]", 500_000)
        assert out.getvalue() == (
            "fetch: 0 of 6 files, 2.5 of 5.0 MB, 0.3 MB/s; a 50%, [b] 0.5 MB, c 0.0 MB and 2 more\n"
        )
        for name in ("[b]", "c", "d", "e"):
            display.end(name, 1_500_000 if name == "[b]" else None)
        display.end("a", 4_000_000)
        display.end("b", 1_000_000)
    assert out.getvalue().splitlines()[-1] == "fetch: 6 of 6 files, 6.5 of 6.5 MB, 0.3 MB/s"


def test_a_file_that_begins_anew_counts_once() -> None:
    out = io.StringIO()
    with Display("fetch", 1, Console(file=out), Clock()) as display:
        display.start("a", 10_000_000, 0)
        display.advance("a", 8_000_000)
        display.start("a", 10_000_000, 0)
    assert "0 of 1 files, 0.0 of 10.0 MB" in out.getvalue()


def test_a_terminal_shows_a_bar_per_file_under_way() -> None:
    out = io.StringIO()
    with Display("fetch", 2, Console(file=out, force_terminal=True, width=100)) as display:
        display.start("folder/[red]a.gz", 2_000_000, 0)
        display.advance("folder/[red]a.gz", 1_000_000)
        display.start("b.gz", None, 0)
        display.end("folder/[red]a.gz", 2_000_000)
    assert "folder/[red]a.gz" in out.getvalue()
    assert "fetch: 1 of 2 files" in out.getvalue()
