"""Where a CPU step, a save, a restart, a reconcile and a `prepare` spend their processor time.

    python -m benchmarks.profiles reconcile [--top N] [--with-callees] [--json]
    python -m benchmarks.profiles reconcile --against ../before [--rounds N]

The second form takes turns with another working tree of this project, each side in a process of its own, and prints the
median of the rounds' ratios: what a change has brought. docs/profiles.md has what was found.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from importlib import import_module
from pathlib import Path

from benchmarks.common import median_ratio
from benchmarks.profiles.table import Profile, show

NAMES = ("step", "save", "restart", "reconcile", "prepare")
HERE = Path(__file__).parents[2]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", help="what to profile", choices=NAMES)
    parser.add_argument("--top", type=int, default=15, help="lines of the table (default 15)")
    parser.add_argument("--with-callees", action="store_true", help="order by time with what a function calls")
    parser.add_argument("--against", type=Path, metavar="TREE", help="take turns with another working tree")
    parser.add_argument("--rounds", type=int, default=5, help="turns of the two trees (default 5)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    if options.against is not None:
        print(json.dumps(compare(options.name, options.against.resolve(), options.rounds)))
        return
    found: Profile = import_module(f"benchmarks.profiles.{options.name}").measure()
    if options.json:
        print(json.dumps(found.to_json()))
    else:
        show(found, top=options.top, with_callees=options.with_callees)


def compare(name: str, other: Path, rounds: int) -> dict[str, float]:
    """Processor seconds of the activity in the other tree and in this one, and the ratio of this one's to those."""
    before: list[float] = []
    after: list[float] = []
    for number in range(rounds):
        for tree in (other, HERE) if number % 2 == 0 else (HERE, other):
            (after if tree == HERE else before).append(_seconds(name, tree))
    return {
        "before_seconds": statistics.median(before),
        "after_seconds": statistics.median(after),
        "ratio": median_ratio(after, before),
        "rounds": rounds,
    }


def _seconds(name: str, tree: Path) -> float:
    command = [sys.executable, "-m", "benchmarks.profiles", name, "--json"]
    environment = {**os.environ, "PYTHONPATH": str(tree)}
    result = subprocess.run(command, cwd=tree, env=environment, capture_output=True, text=True, check=False)
    if result.returncode:
        sys.exit(f"{result.stderr}{' '.join(command)} in {tree} ended with {result.returncode}")
    return float(json.loads(result.stdout.splitlines()[-1])["seconds"])


if __name__ == "__main__":
    main()
