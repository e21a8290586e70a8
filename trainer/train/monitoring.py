"""Put an attempt's monitor together: what it runs on, what went before, what it is charged with. Called by set-up."""

from __future__ import annotations

import os
from datetime import UTC, datetime

from trainer.checkpoint.attempts import Attempt, AttemptClaim
from trainer.checkpoint.layout import attempt_name
from trainer.checkpoint.load import Loaded
from trainer.config import RunConfig
from trainer.elastic.launcher import LAUNCHED_VARIABLE
from trainer.metrics.console import human_number
from trainer.metrics.goodput import Bucket, GoodputClock, Ledger, resumed
from trainer.metrics.history import History
from trainer.metrics.machine import Machine, Place
from trainer.metrics.monitor import Monitor
from trainer.metrics.past import last_ledger
from trainer.metrics.process import process_started
from trainer.metrics.step_sample import SampleClock
from trainer.model.size import count_parameters, trained_flops_per_token
from trainer.parallel.world import World
from trainer.train.state import Progress
from trainer.version import VERSION


def process_clock() -> GoodputClock:
    """The account of this process, from its start on."""
    return GoodputClock(began=process_started())


def build_monitor(
    config: RunConfig,
    world: World,
    clock: GoodputClock,
    machine: Machine,
    places: list[Place],
    attempt: Attempt,
    loaded: Loaded | None,
    progress: Progress,
    history: History | None,
) -> Monitor:
    """The monitor of an attempt that has been claimed; rank 0 reads what earlier attempts left."""
    claim = attempt.claim
    own = loaded is not None and claim.base_checkpoint == loaded.checkpoint.name
    restored = Ledger.from_json(progress.goodput) if own and progress.goodput is not None else None
    began = process_started()
    launched = _launched() or began
    past = last_ledger(attempt.run, claim.attempt) if world.rank == 0 else None
    if past is not None:
        account = resumed(past, restored, gpus=world.world_size, began=began, held_since=launched)
    else:
        seconds = max((began - launched).total_seconds(), 0.0)
        account = Ledger(time=began).spend(Bucket.INIT, seconds, world.world_size)
    clock.settle(account, world.world_size, restart=past is not None)
    monitor = Monitor(
        clock=clock,
        device=world.device,
        machine=machine,
        places=places,
        sample_clock=SampleClock(config.log.profile_seconds),
        cost=config.cost,
        flops_per_token=trained_flops_per_token(
            config.model, config.sequence_length, lora=config.lora, teacher=config.live_teacher
        ),
        attempt=attempt_name(claim.attempt),
        account=account,
        info=_info(config, claim),
        history=history,
    )
    head = {
        "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "run": config.name,
        "attempt": attempt_name(claim.attempt),
        "step": progress.step,
    }
    monitor.begin(head, claim.previous_end)
    return monitor


def _info(config: RunConfig, claim: AttemptClaim) -> dict[str, str]:
    return {
        "version": VERSION,
        "model": config.model.family,
        "parameters": human_number(count_parameters(config.model)),
        "precision": config.precision,
        "config_sha256": claim.config_sha256,
        "image": claim.image or "",
        "git_commit": claim.git_commit or "",
    }


def _launched() -> datetime | None:
    """When the launcher or driver started; None where another program starts the workers."""
    seconds = os.environ.get(LAUNCHED_VARIABLE)
    return datetime.fromtimestamp(float(seconds), UTC) if seconds else None
