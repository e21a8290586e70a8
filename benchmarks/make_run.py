"""Seconds that `make run` takes once the environment exists: prepare text, train, generate.

    python -m benchmarks.make_run [--json]

Runs in a temporary folder that holds what the Makefile reads, so it starts from nothing and leaves `data/` and `runs/`
of the checkout alone; only the virtual environment is that of the checkout. Bar: 180 seconds on two cores.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parent.parent
FILES = ("Makefile", "pyproject.toml", "constraints.txt")
BAR_SECONDS = 180


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    as_json = parser.parse_args().json
    with tempfile.TemporaryDirectory() as folder:
        seconds = measure(Path(folder))
    result = {"bar_seconds": BAR_SECONDS, "seconds": seconds}
    print(json.dumps(result) if as_json else f"make run: {seconds:.0f} s (bar {BAR_SECONDS} s)")


def measure(folder: Path) -> float:
    """Wall time of `make run` in `folder`."""
    for file in FILES:
        shutil.copy(ROOT / file, folder)
    command = ["make", "run", f"VENV={ROOT / '.venv'}"]
    plan = subprocess.run([*command, "--dry-run"], cwd=folder, check=True, capture_output=True, text=True).stdout
    if "-m venv" in plan:
        sys.exit("the environment of this checkout is missing or out of date: type `make run` once, then again this")
    started = time.perf_counter()
    subprocess.run(command, cwd=folder, check=True, stdout=sys.stderr)
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
