"""Why an attempt ended: one list for claims, the coordinator's status, metrics, Events and conditions."""

from __future__ import annotations

from enum import StrEnum


class Reason(StrEnum):
    """What ended an attempt, or a whole run."""

    PREEMPTED = "Preempted"
    SCALED = "Scaled"
    WORKER_FAILED = "WorkerFailed"
    NODE_LOST = "NodeLost"
    HUNG = "Hung"
    NON_FINITE_LOSS = "NonFiniteLoss"
    STORE_UNAVAILABLE = "StoreUnavailable"
    CONFIG_INVALID = "ConfigInvalid"
    BUDGET_EXHAUSTED = "BudgetExhausted"
    SUSPENDED = "Suspended"
    COORDINATOR_LOST = "CoordinatorLost"
    OUT_OF_MEMORY = "OutOfMemory"
    FENCED = "Fenced"
