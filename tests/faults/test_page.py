"""docs/reliability.md is what its results say."""

from __future__ import annotations

import json

from tests.faults.page import PAGE, RESULTS, page


def test_the_page_is_of_the_results_beside_it() -> None:
    results = [json.loads(line) for line in RESULTS.read_text(encoding="utf-8").splitlines()]
    assert page(results) == PAGE.read_text(encoding="utf-8")


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
    text = page([good, {**good, "seed": 7, "violations": ["step 3 was lost"]}, {"seed": 8, "skipped": "no root"}])
    assert "2 runs of 4 attempts (2 compared bit by bit), 1 in which something did not hold, 1 skipped" in text
    assert "Seed 7: step 3 was lost." in text
    assert "| SIGKILL of a worker | 2 | 0 | 2.2 s | 3.0 s | 4 |" in text
    assert "| how often | 0 | 0 | 2 | 2 | 0 | 0 | 0 |" in text
