"""Record two real runs with their faults in a real Prometheus, and draw the dashboards of them for the docs.

    python -m tests.integration.metrics.record [--output docs/pictures]

Five minutes: a small GPT-2 is scaled up, loses a worker and a machine, is suspended and goes on; then a second run with
another learning rate trains alone. There is no GPU in it, so panels about GPUs stay empty, and are named.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

from charts.generator.pictures.__main__ import FOLDER, variables
from charts.generator.pictures.draw import picture
from charts.generator.pictures.prometheus import Prometheus, Span
from tests.integration.metrics.scraping import prometheus
from tests.integration.nodes import Nodes
from tests.integration.servers import free_port, go_tool
from tests.integration.training import Training, prepare
from tests.rules.rendering import platform_rules

STRETCH_SECONDS = 45.0
SCRAPE_SECONDS = 1.0
SETTINGS: dict[str, Any] = {
    "steps": 1_000_000,
    "checkpoint": {"every_steps": 200, "keep": {"rolling": 3}},
    "evaluate": {"every_steps": 200, "sequences": 64},
    "log": {"every_steps": 10, "profile_seconds": 5.0},
    "cost": {"price_per_gpu_hour": 2.5},
}


def main() -> None:
    """Record, draw, and say which panels had nothing to show."""
    parser = argparse.ArgumentParser(description="Record two real runs and draw the dashboards of them.")
    parser.add_argument("--output", type=Path, default=Path("docs/pictures"), help="folder; default: %(default)s")
    output: Path = parser.parse_args().output
    output.mkdir(parents=True, exist_ok=True)
    ports = (free_port(), free_port())
    with tempfile.TemporaryDirectory(prefix="gpt-run-record-") as name:
        folder = Path(name)
        (folder / "data").mkdir()
        dataset = prepare(folder / "data")
        rules = platform_rules(go_tool("helm"), scale=0.1)
        with prometheus(folder / "prometheus", ports, rules, lookback_seconds=10.0) as server:
            began = time.time()
            first_ended = live_with_faults(folder / "demo", dataset, ports[0])
            live_alone(folder / "other", dataset, ports[1])
            both_ended = time.time()
            for file in sorted(FOLDER.glob("*.json")):
                board = json.loads(file.read_text(encoding="utf-8"))
                chosen = variables(board, ["run=small", "run_a=small", "run_b=other"])
                span = Span(began, both_ended if "run_b" in chosen else first_ended, SCRAPE_SECONDS)
                empty = picture(board, Prometheus(server.url, span, chosen), output / f"{file.stem}.png")
                print(f"{output / file.stem}.png" + (f"; without data: {', '.join(empty)}" if empty else ""))


def live_with_faults(folder: Path, dataset: Path, port: int) -> float:
    """The first run; when it was seen last, seconds since the epoch."""
    nodes = Nodes(training(folder, dataset, SETTINGS), nodes="1:2", http_port=port)
    try:
        first = nodes.start()
        nodes.wait_for_steps("a0001", 5)
        time.sleep(STRETCH_SECONDS)
        second = nodes.start()
        nodes.wait_for_steps("a0002", 5)
        time.sleep(STRETCH_SECONDS)
        first.workers()[0].kill()
        nodes.wait_for_steps("a0003", 5)
        time.sleep(STRETCH_SECONDS)
        second.power_off()
        nodes.wait_for_steps("a0004", 5)
        first.popen.terminate()
        first.wait()
        time.sleep(STRETCH_SECONDS / 3)
        nodes.start()
        nodes.wait_for_steps("a0005", 5)
        time.sleep(STRETCH_SECONDS)
        return time.time()
    finally:
        nodes.end()


def live_alone(folder: Path, dataset: Path, port: int) -> None:
    """The run to compare it with."""
    optimizer = {"optimizer": {"type": "adamw", "lr": 1e-3}}
    nodes = Nodes(training(folder, dataset, SETTINGS | optimizer | {"name": "other"}), nodes="1:1", http_port=port)
    try:
        nodes.start()
        time.sleep(2 * STRETCH_SECONDS)
    finally:
        nodes.end()


def training(folder: Path, dataset: Path, settings: dict[str, Any]) -> Training:
    """A folder with a run file."""
    return Training(folder, dataset, settings | {"data": {"train": str(dataset), "validation": str(dataset)}})


if __name__ == "__main__":
    main()
