"""Draw the dashboards as pictures, from what a Prometheus recorded of real runs.

    python -m charts.generator.pictures --prometheus http://localhost:9090 --since 2026-11-20T08:00:00Z \\
        --until 2026-11-20T12:00:00Z --set run=demo --output docs/pictures

Every query of every panel is run as Grafana would run it. Panels without data are drawn empty, and named at the end.
"""

from __future__ import annotations

import argparse
import json
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from charts.generator.pictures.draw import picture
from charts.generator.pictures.prometheus import Prometheus, Span
from charts.generator.values import PLATFORM

FOLDER = PLATFORM / "files" / "dashboards"


def main() -> None:
    """Write a picture of each dashboard."""
    parser = argparse.ArgumentParser(description="Draw the dashboards as pictures, from what a Prometheus recorded.")
    parser.add_argument("dashboards", nargs="*", help="uids, such as gpt-run-fleet; default: all")
    parser.add_argument("--prometheus", default="http://localhost:9090", help="default: %(default)s")
    parser.add_argument("--since", type=_seconds, help="start of the range, ISO 8601; default: an hour before the end")
    parser.add_argument("--until", type=_seconds, default=time.time(), help="end of the range; default: now")
    parser.add_argument("--scrape", type=float, default=15.0, help="seconds between two scrapes; default: %(default)s")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="a variable, such as run=demo")
    parser.add_argument("--output", type=Path, default=Path("docs/pictures"), help="folder; default: %(default)s")
    parser.add_argument("--format", choices=["png", "svg"], default="png", help="of the pictures; default: %(default)s")
    options = parser.parse_args()
    since = options.until - 3600 if options.since is None else options.since
    span = Span(since, options.until, options.scrape)
    options.output.mkdir(parents=True, exist_ok=True)
    for uid in options.dashboards or sorted(path.stem for path in FOLDER.glob("*.json")):
        dashboard = json.loads((FOLDER / f"{uid}.json").read_text(encoding="utf-8"))
        source = Prometheus(options.prometheus, span, variables(dashboard, options.set))
        file = options.output / f"{uid}.{options.format}"
        empty = picture(dashboard, source, file)
        print(f"{file}" + (f"; without data: {', '.join(empty)}" if empty else ""))


def variables(dashboard: dict[str, Any], chosen: list[str]) -> dict[str, str]:
    """Values of the dashboard's variables: what was chosen, else everything."""
    given = dict(item.split("=", 1) for item in chosen)
    names = [item["name"] for item in dashboard["templating"]["list"] if item["type"] == "query"]
    return {name: given.get(name, ".*") for name in names}


def _seconds(text: str) -> float:
    moment = datetime.fromisoformat(text)
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


if __name__ == "__main__":
    main()
