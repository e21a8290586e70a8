"""docs/reference/operator-decisions.md names every action and every reason there is."""

from __future__ import annotations

import re
from pathlib import Path

from operators.actions import ActionReason
from operators.api import ConditionReason
from tests.unit.operators.test_decide import CASES

PAGE = Path(__file__).parents[3] / "docs/reference/operator-decisions.md"


def rows(title: str) -> list[list[str]]:
    """The cells of the table below a title."""
    text = PAGE.read_text(encoding="utf-8").split(f"## {title}\n")[1].split("\n## ")[0]
    lines = [line for line in text.splitlines() if line.startswith("| ")][2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_every_reason_of_an_action_has_its_row() -> None:
    assert sorted(row[1].strip("`") for row in rows("Actions")) == sorted(reason.value for reason in ActionReason)


def test_every_action_stands_by_the_reasons_it_is_done_for() -> None:
    verbs = {"scale": "Scale", "suspend": "Suspend", "resume": "Resume", "force-delete": "DeletePod by force"}
    done = set()
    for case in CASES:
        for line in case.actions:
            verb = "DeleteJob" if line.startswith("delete job") else verbs.get(line.split()[0], "DeletePod")
            done.add((verb, line.split()[-1]))
    assert {(row[0], row[1].strip("`")) for row in rows("Actions")} == done


def test_every_reason_of_a_condition_has_its_row() -> None:
    assert {row[0].strip("`") for row in rows("Conditions")} == {reason.value for reason in ConditionReason}


def test_conditions_that_the_page_names_have_such_reasons() -> None:
    known = {reason.value for reason in ConditionReason}
    for row in rows("Actions"):
        assert set(re.findall(r"`([A-Z][A-Za-z]+)`", row[3])) <= known
