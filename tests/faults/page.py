"""Writes docs/reliability.md from the results of campaigns.

    python -m tests.faults.page local runs/faults/results.jsonl
    python -m tests.faults.page cluster runs/faults-cluster/results.jsonl

Keeps the results beside it (docs/reliability.jsonl, of a cluster docs/reliability-cluster.jsonl), so that the page can
be made again: one campaign's results change nothing of what is said of the other.
"""

from __future__ import annotations

import json
import statistics
import sys
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from string import Template
from typing import Any

from tests.faults.cluster_plan import KINDS as ON_CLUSTER
from tests.faults.plan import EVALUATE_EVERY_STEPS, LOCAL, SAVE_EVERY_STEPS, STEPS, Kind, When

ROOT = Path(__file__).parents[2]
TEMPLATE = Path(__file__).with_name("page.txt")
PAGE = ROOT / "docs" / "reliability.md"
RESULTS = {"local": PAGE.with_suffix(".jsonl"), "cluster": PAGE.with_name("reliability-cluster.jsonl")}
KINDS = {"local": LOCAL, "cluster": ON_CLUSTER}
KEPT = (
    "seed",
    "skipped",
    "violations",
    "kinds",
    "whens",
    "missed",
    "attempts",
    "bitwise",
    "pause_seconds",
    "done_again",
    "seconds",
)
_PAUSES = {"local": (0.5, 1.0, 2.0, 4.0, 8.0, 16.0), "cluster": (1.0, 5.0, 15.0, 30.0, 60.0, 120.0)}
_STEPS = (0, 1, 5, 10, 20)
Result = Mapping[str, Any]


def main() -> None:
    """Take over the results that are named, and write both files."""
    where, path = sys.argv[1:]
    lines = Path(path).read_text(encoding="utf-8").splitlines()
    newest = {result["seed"]: result for result in map(json.loads, lines)}
    kept = [{key: result[key] for key in KEPT if key in result} for _, result in sorted(newest.items())]
    RESULTS[where].write_text("".join(json.dumps(result) + "\n" for result in kept), encoding="utf-8")
    PAGE.write_text(page({each: read(each) for each in RESULTS}), encoding="utf-8")


def read(where: str) -> list[Result]:
    """What is kept of a campaign."""
    return [json.loads(line) for line in RESULTS[where].read_text(encoding="utf-8").splitlines()]


def page(results: Mapping[str, Sequence[Result]]) -> str:
    """The page's text."""
    figures = {f"{where}_{key}": value for where in results for key, value in _figures(where, results[where]).items()}
    return Template(TEMPLATE.read_text(encoding="utf-8")).substitute(
        figures,
        steps=STEPS,
        save_every=SAVE_EVERY_STEPS,
        evaluate_every=EVALUATE_EVERY_STEPS,
    )


def _figures(where: str, results: Sequence[Result]) -> dict[str, object]:
    played = [result for result in results if "skipped" not in result]
    failed = [result for result in played if result["violations"]]
    pauses = [pause for result in played for pause in result["pause_seconds"]]
    again = [steps for result in played for steps in result["done_again"]]
    moments = [f"| {when} | {sum(result['whens'].count(when) for result in played)} |" for when in When]
    return {
        "played": len(played),
        "failed": len(failed),
        "skipped": len(results) - len(played),
        "attempts": sum(result["attempts"] for result in played),
        "bitwise": sum(result["bitwise"] for result in played),
        "failures": _failures(failed),
        "pauses": _distribution("pause", _PAUSES[where], pauses, "s"),
        "done_again": _distribution("steps done again by an attempt", _STEPS, again, ""),
        "kinds": _rows(KINDS[where], played),
        "moments": "\n".join(moments),
    }


def _failures(failed: Iterable[Result]) -> str:
    lines = [f"Seed {result['seed']}: {'; '.join(result['violations'])}.\n" for result in failed]
    return "\n" + "\n".join(lines) if lines else ""


def _distribution(name: str, bounds: Sequence[float], values: Sequence[float], unit: str) -> str:
    """How many values lie up to each bound and beyond the last."""
    heads = [f"<= {bound:g} {unit}".strip() for bound in bounds] + [f"> {bounds[-1]:g} {unit}".strip()]
    edges = [float("-inf"), *bounds, float("inf")]
    counts = [sum(low < value <= high for value in values) for low, high in pairwise(edges)]
    return "\n".join(
        [
            f"| {name} | {' | '.join(heads)} |",
            f"| --- |{' --- |' * len(heads)}",
            f"| how often | {' | '.join(map(str, counts))} |",
        ]
    )


def _rows(kinds: Sequence[Kind], played: Sequence[Result]) -> str:
    rows = []
    for kind in kinds:
        runs = [result for result in played if kind in result["kinds"]]
        pauses = [pause for result in runs for pause in result["pause_seconds"]]
        again = [steps for result in runs for steps in result["done_again"]]
        missed = sum(any(miss.startswith(kind) for miss in result["missed"]) for result in runs)
        median = f"{statistics.median(pauses):.1f} s" if pauses else "-"
        longest = f"{max(pauses):.1f} s" if pauses else "-"
        rows.append(f"| {kind} | {len(runs)} | {missed} | {median} | {longest} | {max(again, default=0)} |")
    return "\n".join(rows)


if __name__ == "__main__":
    main()
