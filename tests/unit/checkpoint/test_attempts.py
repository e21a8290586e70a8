"""Lineage: which checkpoint a run resumes from, whatever attempts died, branched off or committed late."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.checkpoint.attempts import claim_attempt, has_gone_on, lineage
from trainer.checkpoint.layout import checkpoint_name, parse_name
from trainer.checkpoint.store import AlreadyExists, Store, open_run
from trainer.errors import UserError


def names(*pairs: tuple[int, int]) -> list[str]:
    return [checkpoint_name(step, attempt) for step, attempt in pairs]


def test_the_newest_attempts_own_come_first_then_its_base_and_what_was_before() -> None:
    bases = {1: None, 2: checkpoint_name(20, 1)}
    found = lineage(bases, names((10, 1), (20, 1), (30, 1), (25, 2)))
    assert list(found.names) == names((25, 2), (20, 1), (10, 1))


def test_a_late_commit_of_a_fenced_attempt_is_not_in_it() -> None:
    bases = {1: None, 2: checkpoint_name(20, 1)}
    assert list(lineage(bases, names((20, 1), (90, 1))).names) == names((20, 1))


def test_attempts_that_began_from_nothing_and_committed_nothing_are_passed_over() -> None:
    assert list(lineage({1: None, 2: None}, names((10, 1))).names) == names((10, 1))


@pytest.mark.parametrize("later", [{3: checkpoint_name(20, 2)}, {3: checkpoint_name(20, 2), 4: None}])
def test_an_attempt_whose_base_is_gone_and_that_committed_nothing_hides_no_checkpoint(
    later: dict[int, str | None],
) -> None:
    # Retention of a2, which was not quite dead, made room for its step 40 when a3 had claimed the run.
    bases = {1: None, 2: checkpoint_name(10, 1), **later}
    committed = names((10, 1), (40, 2))
    assert list(lineage(bases, committed).names) == names((40, 2), (10, 1))
    assert list(lineage(bases, names((40, 2))).names) == names((40, 2))
    # It still says where it branched off while it has something of its own.
    assert list(lineage(bases, [*committed, *names((25, 3))]).names) == names((25, 3), (10, 1))


def test_without_claims_the_highest_step_wins() -> None:
    assert list(lineage({}, names((10, 2), (20, 1))).names) == names((20, 1), (10, 2))


def test_a_base_in_another_run_is_the_origin() -> None:
    found = lineage({1: "s3://b/other/checkpoints/step-00000005-a0001", 2: None}, [])
    assert found.names == ()
    assert found.origin == "s3://b/other/checkpoints/step-00000005-a0001"


def test_claims_that_name_each_other_end() -> None:
    bases = {1: checkpoint_name(5, 2), 2: checkpoint_name(5, 1)}
    assert list(lineage(bases, names((5, 1), (5, 2))).names) == names((5, 2), (5, 1))


@st.composite
def histories(draw: st.DrawFn) -> tuple[dict[int, str | None], set[str], list[str], list[str]]:
    """A run as it may really go: (bases, committed, honest line newest first, late commits of fenced attempts)."""
    bases: dict[int, str | None] = {}
    committed: set[str] = set()
    line: list[str] = []
    late: list[str] = []
    for attempt in range(1, draw(st.integers(1, 6)) + 1):
        # The base is the newest of the line, or an older one when the newest was broken.
        if line and draw(st.booleans()):
            line = line[draw(st.integers(0, len(line) - 1)) :]
        bases[attempt] = line[0] if line else None
        begin = (parse_name(line[0]) or (0, 0))[0] if line else 0
        for step in sorted(draw(st.sets(st.integers(begin + 1, begin + 20), max_size=4))):
            name = checkpoint_name(step, attempt)
            committed.add(name)
            line = [name, *line]
        if draw(st.booleans()):
            zombie = checkpoint_name(begin + 50, attempt)
            late.append(zombie)
    # The zombies' commits arrive when a later attempt with a place in the line has claimed the run.
    late = [name for name in late if line and (parse_name(name) or (0, 0))[1] < (parse_name(line[0]) or (0, 0))[1]]
    return bases, committed | set(late), line, late


@given(histories())
def test_lineage_is_the_line_that_was_trained(
    history: tuple[dict[int, str | None], set[str], list[str], list[str]],
) -> None:
    bases, committed, line, late = history
    found = list(lineage(bases, committed).names)
    assert found == line
    assert not set(found) & set(late)


@pytest.mark.parametrize(
    ("configs", "names", "gone_on"),
    [
        ({}, [], False),
        ({1: "a"}, ["step-00000040-a0001"], False),
        ({1: "a", 2: "b"}, ["step-00000040-a0001"], False),
        ({1: "a", 2: "b"}, ["step-00000040-a0001", "step-00000050-a0002"], True),
        ({1: "a", 2: "b", 3: "b"}, ["step-00000050-a0002"], True),
        ({1: "b", 2: "a"}, ["step-00000050-a0001"], False),
        ({1: "b", 2: "a", 3: "b"}, ["step-00000050-a0001", "step-00000060-a0002"], False),
    ],
    ids=["new", "another", "preempted-before-a-save", "preempted", "twice", "changed", "asked-for-again"],
)
def test_a_config_begins_where_it_says_once(configs: dict[int, str], names: list[str], gone_on: bool) -> None:
    assert has_gone_on(configs, names, "b") == gone_on


def test_a_number_is_claimed_past_a_listing_that_is_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = open_run(str(tmp_path), "tiny")
    assert [claimed(run), claimed(run)] == [1, 2]
    monkeypatch.setattr(Store, "list_names", lambda *_: ["a0001.json"])  # stands for a store with stale listings
    assert claimed(run) == 3


def test_numbers_that_are_all_taken_end_in_a_complaint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def taken(_store: Store, path: str, _data: bytes) -> None:
        raise AlreadyExists(path)

    monkeypatch.setattr(Store, "write_once", taken)  # stands for others who claim as fast
    with pytest.raises(UserError, match=r"attempts: 100 numbers .* up to a0100, were taken"):
        claimed(open_run(str(tmp_path), "tiny"))


def claimed(run: Store) -> int:
    return claim_attempt(run, world_size=1, config_sha256="a", base_checkpoint=None).number
