"""Measure the figures of the README's table and write them into it.

    python -m benchmarks.run_all [--only NAME] [--render]

Runs each script once with `--json`, one after another, and keeps what it said in benchmarks/results.json together with
the hardware; the table between the README's `benchmarks` markers is drawn from that file. `--only` measures the script
behind one row again (NAME is the row's or the script's; may be repeated) and keeps the others; `--render` measures
nothing. Run it on a machine that does nothing else. Exits with 1 where a script failed.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks.common import hardware, replace_between
from benchmarks.figures import Report
from benchmarks.rows import ROWS

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
RESULTS = Path(__file__).parent / "results.json"
START, END = "<!-- benchmarks:start -->", "<!-- benchmarks:end -->"

# Sizes with which the slower scripts fit into an hour.
ARGUMENTS = {
    "plan_memory": ("--layers", "2"),
    "near_duplicates": ("--documents", "2000", "--rounds", "3", "--megabytes", "50"),
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = sorted({row.name for row in ROWS} | {row.script for row in ROWS})
    parser.add_argument("--only", action="append", choices=names, metavar="NAME", help=f"one of {', '.join(names)}")
    parser.add_argument("--render", action="store_true", help="draw the table from results.json")
    options = parser.parse_args()
    results: dict[str, Any] = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    failed = []
    for script in [] if options.render else scripts(options.only):
        print(f"{script} ...", file=sys.stderr, flush=True)
        report = run(script)
        if report is None:
            failed.append(script)
            continue
        results[script] = {"hardware": hardware(), "report": report}
        # After each script, so that an interruption loses only the one in progress.
        RESULTS.write_text(json.dumps(results, indent=1, sort_keys=True) + "\n")
        write_table(results)
    write_table(results)
    if failed:
        print(f"failed: {', '.join(failed)}; their rows stay as they were", file=sys.stderr)
    return int(bool(failed))


def scripts(only: list[str] | None) -> list[str]:
    """Scripts to run, in the order of the table, each once."""
    wanted = [row.script for row in ROWS if only is None or row.name in only or row.script in only]
    return list(dict.fromkeys(wanted))


def run(script: str) -> Report | None:
    """The report of one script; None if it printed none."""
    command = [sys.executable, "-m", f"benchmarks.{script}", *ARGUMENTS.get(script, ()), "--json"]
    result = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False)
    try:
        report: Report = json.loads(result.stdout)
    except json.JSONDecodeError:
        print(f"{' '.join(command)} ended with {result.returncode} and no report", file=sys.stderr)
        return None
    return report


def write_table(results: dict[str, Any]) -> None:
    """Replace what stands between the README's markers."""
    replace_between(README, START, END, table(results))


def table(results: dict[str, Any]) -> str:
    """The table, and below it the machine and the days."""
    lines = ["| what | bar | measured | script in benchmarks/ |", "| --- | --- | --- | --- |"]
    for row in ROWS:
        measured, enough = "not measured", True
        if row.script in results:
            measured, enough = row.figure(results[row.script]["report"])
        lines.append(f"| {row.what} | {row.bar} | {measured}{'' if enough else ' (missed)'} | `{row.script}.py` |")
    return "\n".join([*lines, "", *machines(results)])


def machines(results: dict[str, Any]) -> list[str]:
    """One sentence per machine; with several, each names its scripts."""
    dates: dict[str, list[str]] = {}
    measured: dict[str, list[str]] = {}
    used = set(scripts(None))
    for script, result in sorted(results.items()):
        if script in used:
            machine = describe(result["hardware"])
            dates.setdefault(machine, []).append(result["hardware"]["date"])
            measured.setdefault(machine, []).append(f"`{script}`")
    sentences = []
    for machine, days in dates.items():
        period = min(days) if min(days) == max(days) else f"{min(days)} to {max(days)}"
        which = f"{', '.join(measured[machine])}: " if len(dates) > 1 else "Measured on "
        sentences.append(f"{which}{machine}, {period}.")
    return sentences


def describe(machine: dict[str, Any]) -> str:
    gpu = f"{machine['gpu']}, " if machine["gpu"] else ""
    return f"{gpu}{machine['cpu']}, {machine['cores']} cores, torch {machine['torch']}"


if __name__ == "__main__":
    sys.exit(main())
