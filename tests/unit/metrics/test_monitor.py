"""What rank 0 makes of an interval: fields of a report, and lines of files."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import torch

from trainer.checkpoint.layout import Committed
from trainer.checkpoint.save import SaveResult
from trainer.checkpoint.store import open_run
from trainer.metrics.config import CostConfig
from trainer.metrics.goodput import Bucket, GoodputClock, Ledger
from trainer.metrics.history import History
from trainer.metrics.machine import Machine, Place, Reading
from trainer.metrics.monitor import Monitor, cost_of
from trainer.metrics.step_sample import SampleClock

HEAD = {"time": "2026-01-01T00:00:00.000+00:00", "run": "small", "attempt": "a0001", "step": 1, "tokens": 1000}
DEVICE = torch.device("cpu")


def monitor(folder: Path, places: list[Place], **changes: Any) -> Monitor:
    settings: dict[str, Any] = {
        "clock": GoodputClock(began=datetime.now(UTC)),
        "device": DEVICE,
        "machine": Machine(DEVICE, host="pod-a", tells_of_node=True),
        "places": places,
        "sample_clock": SampleClock(0.0),
        "cost": CostConfig(price_per_gpu_hour=3600.0),
        "flops_per_token": 6,
        "attempt": "a0001",
        "account": Ledger(datetime.now(UTC)),
        "info": {},
        "history": History(open_run(str(folder), "small"), "a0001"),
    }
    return Monitor(**{**settings, **changes})


def gpus(count: int) -> list[Place]:
    return [
        Place(f"node-{rank // 8}", f"pod-{rank // 8}", rank % 8, "NVIDIA H100", rank % 8 == 0) for rank in range(count)
    ]


def lines(folder: Path, name: str) -> list[dict[str, Any]]:
    file = folder / "small" / "logs" / "a0001" / f"{name}-000.jsonl"
    return [json.loads(line) for line in file.read_text().splitlines()]


def test_files_have_every_gpu_and_metrics_the_first_eight(tmp_path: Path) -> None:
    one = monitor(tmp_path, gpus(24))
    readings = [Reading(own_step_seconds=1.0 + (rank == 17), gpu_power_watts=300.0 + rank) for rank in range(24)]
    told = one.take_readings(readings, HEAD, 60.0)
    assert told["slowest_rank"] == 17
    assert [gpu["power_watts"] for gpu in told["gpus"]] == [300.0 + rank for rank in range(8)]
    assert [host["host"] for host in told["hosts"]] == ["node-0", "node-1", "node-2"]
    written = lines(tmp_path, "gpu")
    assert len(written) == 24
    assert written[17] == {
        **{key: HEAD[key] for key in ("time", "run", "attempt", "step")},
        **{"rank": 17, "node": "node-2", "gpu": 1, "name": "NVIDIA H100", "power_watts": 317.0},
    }
    (performance,) = lines(tmp_path, "performance")
    assert performance["world_size"] == 24
    assert performance["rank_step_seconds"] == {"min": 1.0, "median": 1.0, "max": 2.0}


def test_an_account_has_its_own_time_however_old_the_head_is(tmp_path: Path) -> None:
    began = datetime.now(UTC)
    one = monitor(tmp_path, gpus(1), clock=GoodputClock(began=began))
    one.take_readings([Reading()], HEAD, None)
    (performance,) = lines(tmp_path, "performance")
    spent = datetime.fromisoformat(performance["time"]) - began
    # Another millisecond for each that is rounded.
    assert sum(performance["goodput_seconds"].values()) == pytest.approx(spent.total_seconds(), abs=0.005)


def test_shares_add_up_with_and_without_a_sample(tmp_path: Path) -> None:
    one = monitor(tmp_path, gpus(1))
    for profiled in (False, True):
        one.clock.enter(Bucket.DATA_LOADING)
        with one.step_begins(profiled=profiled) as sample:
            torch.ones(400, 400) @ torch.ones(400, 400)
            if sample is not None:
                sample.forward_backward_ends()
        one.step_ended(0.01, tokens=10, finite=True)
        shares = one.take_readings([Reading()], HEAD, None)["shares"]
        assert ("communication" in shares) == profiled
        if profiled:
            assert sum(shares.values()) == pytest.approx(1.0, abs=1e-4)


def test_totals_count_what_steps_did(tmp_path: Path) -> None:
    one = monitor(tmp_path, gpus(1))
    for seconds, finite in ((0.02, True), (0.02, False), (1000.0, True)):
        one.step_ended(seconds, tokens=10, finite=finite)
    totals = one.account(HEAD)["totals"]
    assert (totals["steps"], totals["tokens"], totals["flops"], totals["nonfinite_steps"]) == (3, 30, 180.0, 1)
    assert (totals["step_durations"][1], totals["step_durations"][-1]) == (2, 1)
    assert totals["attempt"] == "a0001"


def test_time_is_settled_once_a_checkpoint_holds_it(tmp_path: Path) -> None:
    """Or the run's counters would fall where the next attempt finds an older account in the store."""
    began = datetime.now(UTC)
    account = Ledger(began, {Bucket.TRAINING: 5.0, Bucket.EVALUATION: 1.0}, {Bucket.TRAINING: 10.0})
    now = [0.0]
    clock = GoodputClock(began=began, clock=lambda: now[0], now=lambda: began)
    clock.settle(account, 2, restart=True)
    one = monitor(tmp_path, gpus(2), clock=clock, account=account)
    for bucket in (Bucket.TRAINING, Bucket.EVALUATION, Bucket.TRAINING):
        clock.enter(bucket)
        now[0] += 3.0
    told = one.account(HEAD)
    assert (told["goodput_seconds"]["training"], told["goodput_seconds"]["evaluation"]) == (11.0, 4.0)
    assert (told["settled_seconds"]["training"], told["settled_seconds"]["evaluation"]) == (5.0, 1.0)
    kept = one.snapshot(7)
    now[0] += 1.0
    one.save_ended(SaveResult(7, "step-00000007-a0001", error="the store is away"))
    assert one.account(HEAD)["settled_seconds"]["training"] == 5.0
    one.snapshot(8)
    now[0] += 1.0
    one.save_ended(SaveResult(8, "step-00000008-a0001", committed=Committed.model_construct()))
    assert kept["goodput_seconds"]["training"] == 11.0
    assert one.account(HEAD)["settled_seconds"]["training"] == 12.0
    assert one.account(HEAD)["settled_gpu_seconds"]["training"] == 24.0
    clock.enter(Bucket.CHECKPOINT_SAVE)
    now[0] += 2.0
    one.close(HEAD)
    settled = one.account(HEAD)["settled_seconds"]
    assert (settled["training"], settled["checkpoint_save"]) == (12.0, 2.0)


def test_other_ranks_write_and_tell_nothing(tmp_path: Path) -> None:
    one = monitor(tmp_path, gpus(1), history=None)
    one.event(HEAD, "stopped")
    one.close(HEAD)
    assert one.interval(HEAD, None) == {}
    assert list(tmp_path.iterdir()) == []


def test_cost_is_what_gpus_were_held_for() -> None:
    ledger = Ledger(datetime.now(UTC), {}, {Bucket.TRAINING: 3000.0, Bucket.INFRA_RECOVERY: 600.0}, 600.0)
    found = cost_of(CostConfig(price_per_gpu_hour=2.0, currency="EUR"), ledger, tokens=10**9, gpus=8, eta_seconds=3600)
    assert found == {"spent": 2.0, "remaining": 16.0, "lost": 0.333333, "per_billion_tokens": 2.0, "currency": "EUR"}
    assert cost_of(CostConfig(), ledger, tokens=1, gpus=8, eta_seconds=None) is None


def test_a_process_knows_when_it_started() -> None:
    before = time.time()
    code = (
        "import time; time.sleep(0.5); from trainer.metrics.process import process_started as p; print(p().timestamp())"
    )
    started = float(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)
    assert before - 0.05 < started < time.time() - 0.5


def test_a_pod_is_told_from_its_node(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GPTRUN_NODE", "node-7")
    place = Machine(DEVICE, host="pod-a", tells_of_node=True).place
    assert (place.node, place.host) == ("node-7", "pod-a")
