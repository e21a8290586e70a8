"""Each line of a log is printed once, however often and from wherever it is read."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from trainer.jobs.logs import Cursor, new_lines

START = datetime(2026, 1, 1, tzinfo=UTC)


def stamped(nanoseconds: int, text: str) -> str:
    """A line as the kubelet gives it out."""
    at = START + timedelta(seconds=nanoseconds // 10**9)
    return f"{at:%Y-%m-%dT%H:%M:%S}.{nanoseconds % 10**9:09d}Z {text}"


# Many lines of one second, of one microsecond, and of one nanosecond.
GAPS = st.sampled_from([0, 0, 1, 999, 10**6, 10**9, 7 * 10**9])


@given(st.lists(GAPS, max_size=30), st.lists(st.integers(0, 30), max_size=8))
def test_reads_from_the_last_lines_second_add_up_to_the_log(gaps: list[int], reads: list[int]) -> None:
    at, log = 0, []
    for number, gap in enumerate(gaps):
        at += gap
        log.append((at // 10**9, stamped(at, f"line {number}")))
    printed: list[str] = []
    cursor = Cursor()
    for length in [*sorted(reads), len(log)]:
        since = 0 if cursor.after is None else int((cursor.after[0] - START).total_seconds())
        read = list(new_lines([line for second, line in log[:length] if second >= since], cursor))
        printed += [text for text, _ in read]
        cursor = read[-1][1] if read else cursor
    assert printed == [f"line {number}" for number in range(len(log))]


def test_text_keeps_its_blanks() -> None:
    found = new_lines([stamped(5, "  two blanks "), stamped(6, "")], Cursor())
    assert [text for text, _ in found] == ["  two blanks ", ""]


def test_a_cursor_of_another_pods_time_leaves_out_what_was_before() -> None:
    cursor = Cursor(after=(START + timedelta(seconds=3), ""))
    found = new_lines([stamped(2 * 10**9, "before"), stamped(4 * 10**9, "after")], cursor)
    assert [text for text, _ in found] == ["after"]
