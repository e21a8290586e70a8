"""Goodput of runs on 1,024 to 10,000 GPUs: what `gpt-run plan` expects, against simulated runs.

    python -m benchmarks.goodput_scale [--json]

The simulated run (tests/unit/plan/simulated_run.py) has machines of eight GPUs that fail one by one at random, saves
that stop it, and restarts; it lasts 20,000 failures. Failures per 1,000 machine-days: 3.8 are those of Llama 3 (one
interruption in 3.1 h on 16,384 GPUs), 6.5 those of Meta's RSC-1, 20 those of a bad pool. A save stops the run for 5 s,
every 15 minutes or at the plan's best interval; a restart takes 2 or 10 minutes. No run of that size was made.
"""

from __future__ import annotations

import argparse
import itertools
import json
from typing import Any

from benchmarks.common import hardware
from tests.unit.plan.simulated_run import simulated_goodput
from trainer.plan.failures import (
    SECONDS_PER_DAY,
    expected_goodput_ratio,
    mean_seconds_between_failures,
    young_daly_seconds,
)

BAR = 0.01
GPUS = (1024, 4096, 10_000)
GPUS_OF_A_NODE = 8
RATES = (3.8, 6.5, 20.0)
RESTART_SECONDS = (120.0, 600.0)
SAVE_SECONDS = 5.0
USUAL_INTERVAL_SECONDS = 900.0
FAILURES = 20_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    as_json = parser.parse_args().json
    results = [
        compare(gpus, rate, restart, best)
        for rate, gpus, restart, best in itertools.product(RATES, GPUS, RESTART_SECONDS, (False, True))
    ]
    if as_json:
        print(json.dumps({"bar": BAR, "hardware": hardware(), "results": results}))
        return
    for result in results:
        print(
            f"{result['gpus']:6} GPUs, {result['failures_per_1000_node_days']:4} failures/1,000 machine-days (one in "
            f"{result['between_failures_seconds'] / 3600:5.1f} h), restart {result['restart_seconds']:3.0f} s, saves "
            f"every {result['interval_seconds']:5.0f} s: simulated {result['simulated']:.4f}, planned "
            f"{result['planned']:.4f}, to first order {result['first_order']:.4f}"
        )


def compare(gpus: int, rate: float, restart_seconds: float, best: bool) -> dict[str, Any]:
    """Both figures for one size and kind of run; best: saves at the plan's best interval."""
    nodes = gpus // GPUS_OF_A_NODE
    between = mean_seconds_between_failures(nodes, rate)
    interval = young_daly_seconds(SAVE_SECONDS, between) if best else USUAL_INTERVAL_SECONDS
    return {
        "gpus": gpus,
        "failures_per_1000_node_days": rate,
        "between_failures_seconds": between,
        "restart_seconds": restart_seconds,
        "interval_seconds": interval,
        "simulated": simulated_goodput(
            nodes,
            mtbf_per_node_seconds=1000 / rate * SECONDS_PER_DAY,
            restart_seconds=restart_seconds,
            interval_seconds=interval,
            save_seconds=SAVE_SECONDS,
            failures=FAILURES,
        ),
        "planned": expected_goodput_ratio(
            between_failures_seconds=between,
            restart_seconds=restart_seconds,
            save_interval_seconds=interval,
            save_seconds=SAVE_SECONDS,
        ),
        "first_order": (1 - (restart_seconds + interval / 2) / between) / (1 + SAVE_SECONDS / interval),
    }


if __name__ == "__main__":
    main()
