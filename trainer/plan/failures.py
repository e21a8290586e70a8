"""What failures cost: the interval between saves that loses least, and the share of time that leads to progress.

Pure formulas; a test holds them against simulated runs. Called by `trainer.plan.plan`.
"""

from __future__ import annotations

import math

SECONDS_PER_DAY = 86400.0
FAILURES_PER_1000_NODE_DAYS = 6.5
"""Of machines of 8 A100 on Meta's RSC-1 (Kokolis et al. 2024, arXiv:2410.21680)."""


def mean_seconds_between_failures(nodes: int, failures_per_1000_node_days: float) -> float:
    """Of the whole run; infinite without failures."""
    rate = nodes * failures_per_1000_node_days / 1000 / SECONDS_PER_DAY
    return 1 / rate if rate else math.inf


def young_daly_seconds(save_seconds: float, between_failures_seconds: float) -> float:
    """The best time between two saves that each stop training for `save_seconds` (Young 1974; Daly 2006, eq. 37).

    Daly's higher-order form of Young's sqrt(2 * save * between failures); where a save takes longer than half of the
    time between failures, that time itself.
    """
    if save_seconds <= 0:
        return 0.0
    if math.isinf(between_failures_seconds):
        return math.inf
    if save_seconds >= between_failures_seconds / 2:
        return between_failures_seconds
    ratio = save_seconds / (2 * between_failures_seconds)
    young = math.sqrt(2 * save_seconds * between_failures_seconds)
    return young * (1 + math.sqrt(ratio) / 3 + ratio / 9) - save_seconds


def expected_goodput_ratio(
    *, between_failures_seconds: float, restart_seconds: float, save_interval_seconds: float, save_seconds: float
) -> float:
    """Expected share of the time that leads to progress (Kokolis et al. 2024, arXiv:2410.21680, section 3).

    (1 - N r (u0 + dcp / 2)) / (1 + w / dcp): N r failures per second of the whole run, u0 the seconds of a restart, dcp
    those between two saves, w those that a save stops training for. First order: it holds while failures are rare
    against restarts and saves; 0 where they are not.
    """
    lost_per_failure = restart_seconds + save_interval_seconds / 2
    working = 1 - lost_per_failure / between_failures_seconds
    saving = 1 + (save_seconds / save_interval_seconds if save_interval_seconds else math.inf)
    return max(working, 0.0) / saving
