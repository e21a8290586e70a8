"""Exit codes, the text and the JSON of a report."""

from __future__ import annotations

import json

import pytest

from trainer.data.fetch.report import Outcome, Report


def report(*files: Outcome, **changes: object) -> Report:
    rest = {"dry_run": False, "stopped": False, "tolerant": False, "checksums": None} | changes
    return Report(target="data/raw", seconds=1.5, files=files, **rest)


def failed(problem: str) -> Outcome:
    return Outcome(name="x", url="https://h/x", action="failed", problem=problem, message="https://h/x: because")


GOOD = Outcome(name="a", url="https://h/a", action="fetched", bytes=1000, sha256="1" * 64)
HERE = Outcome(name="b", url="https://h/b", action="skipped", bytes=50, sha256="2" * 64)


@pytest.mark.parametrize(
    ("files", "changes", "code"),
    [
        ([GOOD, HERE], {}, 0),
        ([GOOD, failed("missing")], {"stopped": True}, 2),
        ([failed("checksum")], {"stopped": True}, 2),
        ([failed("busy")], {"stopped": True}, 1),
        ([failed("missing"), failed("unreachable")], {"stopped": True}, 1),
        ([GOOD, failed("missing")], {"tolerant": True}, 0),
        ([failed("unreachable")], {"tolerant": True, "stopped": True}, 1),
    ],
)
def test_exit_codes(files: list[Outcome], changes: dict[str, object], code: int) -> None:
    assert report(*files, **changes).exit_code == code


def test_text_counts_and_names_what_failed() -> None:
    text = report(GOOD, HERE, failed("missing"), stopped=True).as_text()
    assert text == (
        "missing: x: https://h/x: because\n"
        "data/raw: 1 fetched (1,000 bytes), 1 here already, 1 failed; "
        "stopped before the end: run the command again to go on"
    )


def test_a_dry_run_lists_sizes() -> None:
    unknown = Outcome(name="c", url="https://h/c", action="fetched")
    lines = report(GOOD, HERE, unknown, dry_run=True).as_text().splitlines()
    assert [line.split() for line in lines[:3]] == [["1,000", "fetch", "a"], ["50", "here", "b"], ["?", "fetch", "c"]]
    assert lines[3] == "data/raw: 2 to fetch (1,000 bytes), 1 here already"


def test_json_has_totals_and_every_file() -> None:
    read = json.loads(json.dumps(report(GOOD, HERE, failed("missing")).as_json()))
    assert (read["fetched"], read["replaced"], read["skipped"], read["failed"], read["bytes"]) == (1, 0, 1, 1, 1000)
    assert read["outcomes"][2] == {
        "name": "x",
        "url": "https://h/x",
        "action": "failed",
        "problem": "missing",
        "message": "https://h/x: because",
    }
