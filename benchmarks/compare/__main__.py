"""Peers side by side: the same work through gpt-run and through what a user would otherwise pick, in one run.

    python -m benchmarks.compare [--only PART] [--json] [--chart FILE.svg|FILE.png] [--render]

Takes the parts one after another, keeps what each found in benchmarks/compare/results.json together with the hardware,
and draws the table between the markers of docs/compare.md and its chart from that file. `--only` (may be repeated)
measures these parts again and keeps the others, `--render` measures nothing. `--quick` tries the parts at tiny sizes
and writes nothing: its figures say nothing. Run it on a machine that does nothing else. A side that fails has a row
"no figure" and why, and holds up neither the others nor the page; with one, the exit code is 1.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import traceback
from pathlib import Path
from typing import Any

from benchmarks.common import hardware, in_own_process
from benchmarks.compare import installation, loader, preparation, recovery, saving, training
from benchmarks.compare.chart import write_chart
from benchmarks.compare.measurement import OURS, Part, Report
from benchmarks.compare.page import CHART, Results, text_table, write_page
from benchmarks.compare.turns import complaint

RESULTS = Path(__file__).with_name("results.json")
PARTS: dict[str, Part] = {
    "training": training.PART,
    "saving": saving.PART,
    "recovery": recovery.PART,
    "loader": loader.PART,
    "preparation": preparation.PART,
    "installation": installation.PART,
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", choices=PARTS, metavar="PART", help=f"one of {', '.join(PARTS)}")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--chart", type=chart_file, metavar="FILE", help="draw the chart there as well, SVG or PNG")
    parser.add_argument("--render", action="store_true", help="measure nothing: draw what results.json has")
    parser.add_argument("--quick", action="store_true", help="try the parts at tiny sizes; writes nothing")
    options = parser.parse_args()
    results: Results = json.loads(RESULTS.read_text()) if RESULTS.exists() and not options.quick else {}
    failed = []
    for name in [] if options.render else options.only or list(PARTS):
        print(f"{name} ...", file=sys.stderr, flush=True)
        started = time.monotonic()
        report = measured(name, options.quick)
        print(f"{name}: {time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)
        failed += [f"{name}, {side}" for side in report.absent]
        results[name] = to_json(report)
        # After each part, so that an interruption loses only the one in progress.
        if not options.quick:
            RESULTS.write_text(json.dumps(results, indent=1, sort_keys=True) + "\n")
    # In the order of the parts.
    results = {name: results[name] for name in PARTS if name in results}
    if not options.quick:
        write_page(results, PARTS)
        write_chart(results, CHART)
    if options.chart is not None:
        write_chart(results, options.chart)
    print(json.dumps(results) if options.json else text_table(results))
    if failed:
        print(f"no figure: {'; '.join(failed)}", file=sys.stderr)
    return int(bool(failed))


def measured(name: str, quick: bool) -> Report:
    """What a part found, in a process of its own: it changes the environment and waits for all of its children."""
    try:
        report = in_own_process(PARTS[name].measure, quick)
        if ours := [words for side, words in report.absent.items() if side.split(",")[0] == OURS]:
            raise RuntimeError(f"our side failed: {ours[0]}")
    except (Exception, SystemExit) as error:
        traceback.print_exc()
        return Report([], {"all sides": complaint(error)})
    return report


def to_json(report: Report) -> dict[str, Any]:
    """A part's report as it is kept, with the machine."""
    measurements = [measurement.to_json() for measurement in report.measurements]
    return {"hardware": hardware(), "measurements": measurements, "absent": report.absent}


def chart_file(text: str) -> Path:
    """A path that ends as the chart's formats do."""
    if not text.endswith((".svg", ".png")):
        raise argparse.ArgumentTypeError(f"{text!r}: a name that ends in .svg or .png is expected")
    return Path(text)


if __name__ == "__main__":
    sys.exit(main())
