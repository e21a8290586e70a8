"""What failures cost: the interval between saves that loses least, and the share of time that leads to progress.

Pure formulas; a test holds them against simulated runs. Called by `trainer.plan.plan`.
"""

from __future__ import annotations

import math

SECONDS_PER_DAY = 86400.0
FAILURES_PER_1000_NODE_DAYS = 6.5
"""Of machines of 8 A100 on Meta's RSC-1 (Kokolis et al. 2024, arXiv:2410.21680)."""
# A float's exponential ends there; no such run gets anywhere.
_LARGEST_EXPONENT = 700.0


def mean_seconds_between_failures(nodes: int, failures_per_1000_node_days: float) -> float:
    """Of the whole run; infinite without failures."""
    rate = nodes * failures_per_1000_node_days / 1000 / SECONDS_PER_DAY
    return 1 / rate if rate else math.inf


def young_daly_seconds(save_seconds: float, between_failures_seconds: float) -> float:
    """The best time between two saves that each stop training for `save_seconds` (Young 1974; Daly 2006, eq. 37).

    Daly's higher-order form of Young's sqrt(2 * save * between failures); where a save takes twice the time between
    failures or longer, that time itself.
    """
    if save_seconds <= 0:
        return 0.0
    if math.isinf(between_failures_seconds):
        return math.inf
    if save_seconds >= 2 * between_failures_seconds:
        return between_failures_seconds
    ratio = save_seconds / (2 * between_failures_seconds)
    young = math.sqrt(2 * save_seconds * between_failures_seconds)
    return young * (1 + math.sqrt(ratio) / 3 + ratio / 9) - save_seconds


def expected_goodput_ratio(
    *, between_failures_seconds: float, restart_seconds: float, save_interval_seconds: float, save_seconds: float
) -> float:
    """Expected share of the time that leads to progress, of a run whose failures come at random: dcp / ((1/f + u0) *
    (exp((dcp + w) f) - 1)).

    f failures per second of the whole run, u0 the seconds of a restart, dcp those between two saves, w those that a
    save stops training for: dcp of progress over the mean time until dcp + w pass without a failure, tries and restarts
    included, as in Daly 2006; a machine that fails during a restart is replaced by it. To first order in f this is
    (1 - f (u0 + dcp / 2)) / (1 + w / dcp) (Kokolis et al. 2024, arXiv:2410.21680, section 3), which is 0.05 too low
    where a run of 10,000 GPUs fails every hour and takes ten minutes to restart.
    """
    if not save_interval_seconds:
        return 0.0
    saving = 1 + save_seconds / save_interval_seconds
    if math.isinf(between_failures_seconds):
        return 1 / saving
    exponent = save_interval_seconds * saving / between_failures_seconds
    if exponent > _LARGEST_EXPONENT:
        return 0.0
    return save_interval_seconds / ((between_failures_seconds + restart_seconds) * math.expm1(exponent))
