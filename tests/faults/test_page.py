"""docs/reliability.md is what its results say."""

from __future__ import annotations

from tests.faults.page import PAGE, RESULTS, page, read


def test_the_page_is_of_the_results_beside_it() -> None:
    assert page({where: read(where) for where in RESULTS}) == PAGE.read_text(encoding="utf-8")


def test_what_did_not_hold_is_on_the_page() -> None:
    good = {
        "seed": 1,
        "violations": [],
        "kinds": ["SIGKILL of a worker"],
        "whens": ["at a step"],
        "missed": [],
        "attempts": 2,
        "bitwise": True,
        "pause_seconds": [1.5, 3.0],
        "done_again": [4],
        "seconds": 9.0,
    }
    bad = {**good, "seed": 7, "violations": ["step 3 was lost"]}
    deleted = {**good, "kinds": ["a worker's pod is deleted"], "violations": ["step 4 was lost"]}
    text = page({"local": [good, bad, {"seed": 8, "skipped": "no root"}], "cluster": [deleted]})
    assert "2 runs of 4 attempts (2 compared bit by bit), 1 in which something did not hold, 1 skipped" in text
    assert "Seed 7: step 3 was lost." in text
    assert "| SIGKILL of a worker | 2 | 0 | 2.2 s | 3.0 s | 4 |" in text
    assert "| how often | 0 | 0 | 2 | 2 | 0 | 0 | 0 |" in text
    assert "1 runs of 2 attempts (1 compared bit by bit), 1 in which something did not hold, 0 skipped" in text
    assert "Seed 1: step 4 was lost." in text
    assert "| a worker's pod is deleted | 1 | 0 | 2.2 s | 3.0 s | 4 |" in text
