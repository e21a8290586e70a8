"""The plan of a run: everything the other modules compute, put together for one run file and one set of machines.

Pure; called by the command and by the search. Units are in the names; speeds come as low, typical and high.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from trainer.config import RunConfig, total_steps
from trainer.model.size import (
    count_parameters,
    executed_flops_per_token,
    parameter_flops_per_token,
)
from trainer.plan import failures, speed, storage
from trainer.plan.hardware import Cluster
from trainer.plan.memory import Memory, plan_memory
from trainer.plan.scaling_law import FITS, Fit, effective_tokens
from trainer.plan.speed import Speed


@dataclass(frozen=True)
class Assumptions:
    """What a plan takes for granted and the user may know better."""

    dataset_tokens: int | None = None
    """Different training tokens; None where nobody knows, and then a length in epochs is unknown too."""
    measured_mfu_ratio: float | None = None
    """By 6N + 12LdT, of a run on such GPUs; replaces the estimate."""
    measured_tokens_per_second_per_gpu: float | None = None
    """Of this model on such GPUs; replaces the estimate."""
    failures_per_1000_node_days: float = failures.FAILURES_PER_1000_NODE_DAYS
    restart_seconds: float = 120.0
    """From a failure to the next step: notice, a spare machine's launcher, load."""
    store_bytes_per_second: float = 1e9
    """From one machine to the store of checkpoints."""
    law: Fit | None = None
    """Fitted to runs on such data; takes the place of the published ones."""

    @property
    def fits(self) -> tuple[Fit, ...]:
        """The laws that losses and compute-optimal tokens come from."""
        return FITS if self.law is None else (self.law,)


@dataclass(frozen=True)
class Resilience:
    """Saves and failures."""

    between_failures_seconds: float
    save_interval_seconds: float
    """As the run file has it; infinite where it saves at the end only."""
    best_interval_seconds: float
    """By Young and Daly, at least the time that a save takes to be written."""
    goodput_ratio: float
    """Expected share of the time that leads to progress."""


@dataclass(frozen=True)
class Plan:
    """What a run needs, takes and costs."""

    config: RunConfig
    cluster: Cluster
    assumptions: Assumptions
    parameters: int
    flops_per_token: int
    """By 6N + 12LdT (PaLM), and what a run of this task does more or less of it."""
    parameter_flops_per_token: int
    """By 6N (Kaplan)."""
    executed_flops_per_token: int
    """What a GPU executes, recomputation included."""
    memory: Memory
    low: Speed
    typical: Speed
    high: Speed
    steps: int | None
    tokens: int | None
    """Of the whole run, repeated ones included."""
    storage: storage.Storage
    resilience: Resilience
    advice: tuple[str, ...] = ()
    contradictions: tuple[Any, ...] = field(default=())

    @property
    def fits(self) -> bool:
        """Whether the peak is within the GPU's memory."""
        return self.memory.total <= self.cluster.accelerator.memory_bytes

    @property
    def hours(self) -> float | None:
        """Expected, failures and saves included."""
        return self.hours_at(self.typical)

    def hours_at(self, at: Speed) -> float | None:
        """Expected at another speed of the range."""
        ratio = self.resilience.goodput_ratio
        if self.tokens is None or not ratio:
            return None
        return self.tokens / at.tokens_per_second / ratio / 3600

    @property
    def cost(self) -> float | None:
        """Of all GPUs for `hours`."""
        price = self.cluster.price
        return None if self.hours is None or price is None else self.hours * self.cluster.gpus * price

    @property
    def energy_kwh(self) -> float | None:
        """Of the GPUs at board power; machines and cooling add a third to a half."""
        if self.hours is None:
            return None
        return self.hours * self.cluster.gpus * self.cluster.accelerator.power_watts / 1000

    @property
    def untrained_loss(self) -> float:
        """Of a model that gives every token the same probability."""
        return math.log(self.config.model.vocab_size)

    @property
    def losses(self) -> dict[str, float | None]:
        """Loss after the run by each law, repeated text at its worth; empty where the length is unknown.

        None where a law foretells more than an untrained model has: it was not made for so small a run.
        """
        if self.tokens is None:
            return {}
        unique = self.assumptions.dataset_tokens
        worth = effective_tokens(self.tokens, unique) if unique else self.tokens
        losses = {fit.name: fit.loss(self.parameters, worth) for fit in self.assumptions.fits}
        return {name: loss if loss < self.untrained_loss else None for name, loss in losses.items()}

    def as_dict(self) -> dict[str, Any]:
        """The keys of `gpt-run plan --json`."""
        return {
            "parameters": self.parameters,
            "flops_per_token": self.flops_per_token,
            "memory_bytes": self.memory.parts,
            "tokens_per_second": self.typical.tokens_per_second,
            "hours": self.hours,
            "cost": self.cost,
            "advice": list(self.advice),
            "contradictions": [found.as_dict() for found in self.contradictions],
            "losses": self.losses,
        }


def make_plan(config: RunConfig, cluster: Cluster, assumptions: Assumptions) -> Plan:
    """The plan without advice and contradictions, which are drawn from it.

    Raises UserError if the ranks cannot be divided into the sharding groups that the run asks for.
    """
    ranks = {"world_size": cluster.gpus, "local_world_size": cluster.gpus_per_machine}
    low, typical, high = _speeds(config, cluster, assumptions)
    kept = storage.plan_storage(
        config,
        machines=cluster.machines,
        ranks=cluster.gpus,
        tokens_per_second=typical.tokens_per_second,
        store_bytes_per_second=assumptions.store_bytes_per_second,
    )
    steps = _steps(config, assumptions.dataset_tokens)
    return Plan(
        config=config,
        cluster=cluster,
        assumptions=assumptions,
        parameters=count_parameters(config.model),
        flops_per_token=speed.flops_of(config),
        parameter_flops_per_token=parameter_flops_per_token(config.model),
        executed_flops_per_token=executed_flops_per_token(
            config.model,
            config.sequence_length,
            config.parallel.recompute,
            lora=config.lora,
            teacher=config.live_teacher,
        ),
        memory=plan_memory(config, **ranks),
        low=low,
        typical=typical,
        high=high,
        steps=steps,
        tokens=None if steps is None else steps * config.batch.sequences * config.sequence_length,
        storage=kept,
        resilience=_resilience(config, cluster, assumptions, kept, typical),
    )


def save_interval_seconds(config: RunConfig, step_seconds: float, dataset_tokens: int | None) -> float:
    """Seconds between two saves of the run file; infinite where it saves at the end only."""
    settings = config.checkpoint
    intervals = [settings.every_seconds, settings.every_steps * step_seconds]
    if settings.every_epochs and dataset_tokens:
        epoch_steps = dataset_tokens / (config.batch.sequences * config.sequence_length)
        intervals.append(settings.every_epochs * epoch_steps * step_seconds)
    # A save is due at the end of a step.
    return max(min((seconds for seconds in intervals if seconds), default=float("inf")), step_seconds)


def _speeds(config: RunConfig, cluster: Cluster, assumptions: Assumptions) -> tuple[Speed, Speed, Speed]:
    """Low, typical and high; all the same where the speed was measured."""
    peak = cluster.accelerator.dense_flops_per_second
    step_tokens = config.batch.sequences * config.sequence_length
    measured = assumptions.measured_tokens_per_second_per_gpu
    if measured is None and assumptions.measured_mfu_ratio is not None:
        measured = assumptions.measured_mfu_ratio * peak / speed.flops_of(config)
    if measured is not None:
        seconds = [step_tokens / (measured * cluster.gpus)] * 3
    else:
        work = speed.step_work(config, world_size=cluster.gpus, local_world_size=cluster.gpus_per_machine)
        rates = speed.rates_of(
            cluster.accelerator,
            machines=cluster.machines,
            network_bytes_per_second=cluster.network_bytes_per_second,
        )
        ideal = speed.step_seconds(work, rates)
        seconds = [ideal / share for share in (speed.LOW, speed.TYPICAL, speed.HIGH)]
    low, typical, high = (
        speed.speed(config, seconds=each, world_size=cluster.gpus, peak_flops_per_second=peak) for each in seconds
    )
    return low, typical, high


def _steps(config: RunConfig, dataset_tokens: int | None) -> int | None:
    if config.epochs is not None and dataset_tokens is None:
        return None
    return total_steps(config, (dataset_tokens or 0) // config.sequence_length)


def _resilience(
    config: RunConfig, cluster: Cluster, assumptions: Assumptions, kept: storage.Storage, typical: Speed
) -> Resilience:
    between = failures.mean_seconds_between_failures(cluster.machines, assumptions.failures_per_1000_node_days)
    interval = save_interval_seconds(config, typical.step_seconds, assumptions.dataset_tokens)
    # A save cannot begin before the one ahead of it is written.
    interval = max(interval, kept.checkpoint_seconds if config.checkpoint.asynchronous else 0.0)
    best = max(failures.young_daly_seconds(kept.stall_seconds, between), kept.checkpoint_seconds)
    usual = min(interval, between)  # a run that never saves loses what it did since its start
    return Resilience(
        between_failures_seconds=between,
        save_interval_seconds=interval,
        best_interval_seconds=best,
        goodput_ratio=failures.expected_goodput_ratio(
            between_failures_seconds=between,
            restart_seconds=assumptions.restart_seconds,
            save_interval_seconds=usual,
            save_seconds=kept.stall_seconds,
        ),
    )
