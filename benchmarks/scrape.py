"""What a scrape of a run costs: bytes, series and time, at 8 and at 1,024 ranks, and after 1,000 attempts.

    python -m benchmarks.scrape [--json]

No cluster of that size is at hand, so the ranks are made up: rank 0's monitor is given readings of so many GPUs, and
the coordinator's status sees so many nodes. What follows is real: the report, the registry, HTTP on this machine.
Bars: at most 200 series and 50 ms a scrape, the same after 1,000 attempts.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import torch

from benchmarks.common import hardware
from trainer.checkpoint.store import open_run
from trainer.elastic.rounds import Member, Round, Seen, Wait
from trainer.elastic.status import RunStatus, StatusServer
from trainer.metrics.config import CostConfig
from trainer.metrics.goodput import Bucket, GoodputClock, Ledger
from trainer.metrics.history import History
from trainer.metrics.machine import Machine, Place, Reading
from trainer.metrics.monitor import Monitor
from trainer.metrics.process import process_started
from trainer.metrics.step_sample import SampleClock

BAR_SERIES = 200
BAR_SECONDS = 0.05
GPUS_OF_A_NODE = 8
WORLDS = (8, 1024)
ATTEMPTS = 1000
SCRAPES = 50
TIME = "2026-01-01T00:00:00+00:00"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    as_json = parser.parse_args().json
    result: dict[str, Any] = {"bar_series": BAR_SERIES, "bar_seconds": BAR_SECONDS, "hardware": hardware()}
    result["scrapes"] = {str(ranks): measure(ranks) for ranks in WORLDS}
    if as_json:
        print(json.dumps(result))
        return
    for ranks, found in result["scrapes"].items():
        first, last = found["first"], found["last"]
        print(
            f"{ranks} ranks: {first['series']} series, {first['bytes']} bytes, {first['seconds'] * 1e3:.1f} ms; after "
            f"{ATTEMPTS} attempts {last['series']} series, {last['bytes']} bytes, {last['seconds'] * 1e3:.1f} ms"
        )


def measure(ranks: int) -> dict[str, dict[str, float]]:
    """Series, bytes and median seconds of a scrape, in the first attempt and after many."""
    status = RunStatus()
    server = StatusServer(status, "127.0.0.1", 0)
    try:
        attempt(status, ranks, 1)
        first = scrape(server.port)
        for number in range(2, ATTEMPTS + 1):
            attempt(status, ranks, number)
        return {"first": first, "last": scrape(server.port)}
    finally:
        server.close()


def attempt(status: RunStatus, ranks: int, number: int) -> None:
    """One attempt of a run, as the coordinator hears of it."""
    nodes = [f"node-{node:04d}" for node in range(ranks // GPUS_OF_A_NODE)]
    members = {node: Member(node, node, GPUS_OF_A_NODE, since=0.0, seen_at=0.0) for node in nodes}
    status.round_formed("Preempted" if number > 1 else None)
    status.look_at("big", Seen(hold_until=0.0, round=Round("r", number, tuple(nodes)), members=members), Wait(""), 1.0)
    with tempfile.TemporaryDirectory(prefix="gpt-run-bench-") as folder:
        status.report(report(ranks, nodes, number, Path(folder)))


def report(ranks: int, nodes: list[str], number: int, folder: Path) -> dict[str, Any]:
    """What rank 0 tells after some steps."""
    places = [
        Place(
            nodes[rank // GPUS_OF_A_NODE],
            nodes[rank // GPUS_OF_A_NODE],
            rank % GPUS_OF_A_NODE,
            "NVIDIA H100 80GB HBM3",
            rank % GPUS_OF_A_NODE == 0,
        )
        for rank in range(ranks)
    ]
    name = f"a{number:04d}"
    device = torch.device("cpu")
    monitor = Monitor(
        clock=GoodputClock(began=process_started()),
        device=device,
        machine=Machine(device, host=places[0].host, tells_of_node=True),
        places=places,
        sample_clock=SampleClock(0.0),
        cost=CostConfig(price_per_gpu_hour=2.5),
        flops_per_token=10**10,
        attempt=name,
        account=Ledger(time=process_started()),
        info={"version": "0.1.0", "model": "llama", "parameters": "1.3B", "precision": "bf16"},
        history=History(open_run(str(folder), "big"), name),
    )
    with monitor.step_begins(profiled=False):
        pass
    monitor.step_ended(1.0, tokens=2**19, finite=True)
    monitor.clock.enter(Bucket.EVALUATION)
    head = {"time": TIME, "run": "big", "attempt": name, "step": 1, "tokens": 2**19}
    readings = [Reading(*(rank % 97 + float(figure) for figure in range(11))) for rank in range(ranks)]
    fields = monitor.take_readings(readings, head, 3600.0)
    loop = {
        **dict.fromkeys(("loss", "validation_loss", "lr", "grad_norm", "tokens_per_second", "mfu_ratio"), 0.123456),
        **dict.fromkeys(("checkpoint_bytes", "checkpoint_duration_seconds", "checkpoint_interval_seconds"), 1.5),
        **{"attempt": name, "phase": "training", "step": 1, "steps_total": 10, "tokens": 2**19},
        **{"last_progress_time": TIME, "eta_time": TIME, "last_checkpoint": {"name": "x", "time": TIME}},
        "memory": {"allocated": 1, "reserved": 2, "total": 3},
        "shares": dict.fromkeys(("data", "forward_backward", "communication", "optimizer", "checkpoint", "other"), 0.1),
    }
    return {**fields, **loop}


def scrape(port: int) -> dict[str, float]:
    """Fetch /metrics some times over HTTP."""
    seconds, text = [], b""
    for _ in range(SCRAPES):
        started = time.perf_counter()
        with urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
            text = answer.read()
        seconds.append(time.perf_counter() - started)
    series = sum(not line.startswith(b"#") for line in text.splitlines())
    return {"series": series, "bytes": len(text), "seconds": statistics.median(seconds)}


if __name__ == "__main__":
    main()
