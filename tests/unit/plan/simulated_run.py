"""A run of many machines that fail one by one, in simulated time: what the goodput formulas are held against."""

from __future__ import annotations

import heapq
import random


def simulated_goodput(
    nodes: int,
    *,
    mtbf_per_node_seconds: float,
    restart_seconds: float,
    interval_seconds: float,
    save_seconds: float,
    failures: int = 3000,
) -> float:
    """Share of the time that led to progress, of a run in which each machine fails by itself.

    A run works for an interval, stops for a save, and goes on; a failure of any machine takes it back to the newest
    save and costs a restart. A machine that fails meanwhile is replaced by the restart that is under way. failures:
    about how many make up the run.
    """
    rng = random.Random(nodes)
    goal = failures * mtbf_per_node_seconds / nodes
    fails_at = [rng.expovariate(1 / mtbf_per_node_seconds) for _ in range(nodes)]
    heapq.heapify(fails_at)
    now = saved = 0.0
    while saved < goal:
        end = now + interval_seconds + save_seconds
        if fails_at[0] >= end:
            now, saved = end, saved + interval_seconds
            continue
        now = fails_at[0] + restart_seconds
        while fails_at[0] < now:
            heapq.heapreplace(fails_at, now + rng.expovariate(1 / mtbf_per_node_seconds))
    return saved / now
