"""Ranges against the plain idea of them: a set of byte positions."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from trainer.data.fetch import ranges

SIZE = 40
pieces = st.lists(st.tuples(st.integers(0, SIZE), st.integers(0, SIZE)).map(lambda pair: tuple(sorted(pair))))


def positions(covered: list[ranges.Range] | tuple[ranges.Range, ...]) -> set[int]:
    return {position for start, stop in covered for position in range(start, stop)}


@given(pieces)
def test_added_ranges_are_the_union_sorted_and_apart(added: list[ranges.Range]) -> None:
    covered: tuple[ranges.Range, ...] = ()
    for start, stop in added:
        covered = ranges.add(covered, start, stop)
    assert positions(covered) == positions(added)
    assert ranges.total(covered) == len(positions(added))
    assert ranges.are_valid(covered, SIZE)


@given(pieces, st.integers(1, 12), st.integers(0, SIZE))
def test_missing_pieces_are_the_rest_in_order(added: list[ranges.Range], piece_bytes: int, num_bytes: int) -> None:
    covered: tuple[ranges.Range, ...] = ()
    for start, stop in added:
        covered = ranges.add(covered, start, stop)
    found = list(ranges.missing(covered, num_bytes, piece_bytes))
    assert positions(found) == set(range(num_bytes)) - positions(covered)
    assert sum(stop - start for start, stop in found) == len(positions(found))
    assert found == sorted(found)
    assert all(0 < stop - start <= piece_bytes for start, stop in found)


def test_ranges_that_no_writer_would_leave_are_refused() -> None:
    for bad in (((3, 2),), ((0, 5), (5, 7)), ((0, 5), (4, 7)), ((-1, 5),), ((0, 41),), ((2, 2),)):
        assert not ranges.are_valid(bad, SIZE), bad
    assert ranges.are_valid((), None)
    assert ranges.are_valid(((0, 10**12),), None)
