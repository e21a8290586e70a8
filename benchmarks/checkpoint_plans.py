"""What checkpoint_metadata.py measures: plans of a save of many ranks, and the .metadata made of them."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from torch.distributed.checkpoint.default_planner import DefaultLoadPlanner
from torch.distributed.checkpoint.filesystem import _StorageInfo
from torch.distributed.checkpoint.planner import SavePlan
from torch.distributed.checkpoint.storage import WriteResult
from torch.distributed.tensor import DTensor

from benchmarks.common import memory_megabytes
from benchmarks.worlds import enter_fake_group
from trainer.checkpoint.layout import METADATA, Checkpoint, Committed, FileEntry, checkpoint_name
from trainer.checkpoint.reader import CheckpointReader, VerifiedFiles, sha256_of
from trainer.checkpoint.staging import StagedPlanner, flatten_below
from trainer.checkpoint.store import open_store
from trainer.checkpoint.writer import CheckpointFolder, CheckpointWriter
from trainer.config import RunConfig
from trainer.config_file import load_run_config
from trainer.model.decoder import Decoder
from trainer.parallel.fsdp import shard_model
from trainer.parallel.mesh import make_mesh
from trainer.train.optimizer import build_optimizers
from trainer.train.state import tensors_of

NAME = checkpoint_name(1, 1)


@dataclass(frozen=True)
class Planned:
    """What the ranks want to save."""

    plans: list[SavePlan]
    seconds: float
    """Of one rank, on average."""
    tensors: dict[str, Any]
    """Rank 0's state dict."""
    megabytes_before: float
    """This process's memory before it planned."""


@dataclass(frozen=True)
class Written:
    """The file, and what it took."""

    size: int
    shards: int
    plan_seconds: float
    write_seconds: float


def local_plans(preset: str, shard: str, world_size: int, local_world_size: int) -> Planned:
    """Plans of all ranks, one after another. Resets this process's peak of memory."""
    config = load_run_config(preset, [f"parallel.shard={shard}", "parallel.compile=false"])
    enter_fake_group(0, world_size)
    tensors = _tensors(config, world_size, local_world_size)
    # The gradients that the moments were made from are gone.
    Path("/proc/self/clear_refs").write_text("5")
    megabytes = memory_megabytes(os.getpid(), "VmRSS")
    wanted = _plan(tensors, 0)
    # Ranks that hold copies plan the same: one of each is enough.
    different = local_world_size if shard == "hybrid" else world_size
    plans, seconds = [], 0.0
    for rank in range(different):
        enter_fake_group(rank, world_size)
        mine = _as_rank(tensors, config, world_size, local_world_size)
        started = time.perf_counter()
        plans.append(_plan(mine, rank))
        seconds += time.perf_counter() - started
    assert plans[0].items == wanted.items, "rank 0's tensors and their stand-ins are planned differently"
    enter_fake_group(0, world_size)
    return Planned(plans * (world_size // different), seconds / different, tensors, megabytes)


def write_metadata(plans: list[SavePlan], root: Path, streams: int) -> Written:
    """Make the global plan as rank 0 does, and write .metadata as if each rank had written its items."""
    started = time.perf_counter()
    planner = StagedPlanner({})
    global_plan, metadata = planner.create_global_plan(plans)
    plan_seconds = time.perf_counter() - started
    results = [_results(rank, plan, streams) for rank, plan in enumerate(global_plan)]
    folder = CheckpointFolder(open_store(str(root)).child(NAME), None)
    writer = CheckpointWriter(folder, 0, streams, {})
    started = time.perf_counter()
    writer.finish(metadata, results)
    seconds = time.perf_counter() - started
    size = folder.entries[METADATA].bytes
    return Written(size, sum(len(plan.items) for plan in global_plan), plan_seconds, seconds)


def read_metadata(root: str) -> tuple[float, float]:
    """Seconds and megabytes that it takes a fresh process."""
    before = memory_megabytes(os.getpid(), "VmRSS")
    reader = _reader(root)
    started = time.perf_counter()
    reader.read_metadata()
    return time.perf_counter() - started, memory_megabytes(os.getpid(), "VmHWM") - before


def load_plan_seconds(tensors: dict[str, Any], root: str) -> float:
    """Seconds that a rank takes to plan what it reads, in a world of the same size."""
    metadata = _reader(root).read_metadata()
    planner = DefaultLoadPlanner()
    started = time.perf_counter()
    planner.set_up_planner(flatten_below(tensors), metadata, is_coordinator=True)
    planner.create_local_plan()
    return time.perf_counter() - started


def _tensors(config: RunConfig, world_size: int, local_world_size: int) -> dict[str, Any]:
    """Rank 0's state dict as a save finds it, made by the trainer; values are never looked at."""
    with torch.device("meta"):
        model = Decoder(config.model)
    mesh = make_mesh(config.parallel, world_size=world_size, local_world_size=local_world_size, device_type="cpu")
    shard_model(model, mesh, config.parallel, config.precision)
    model.to_empty(device="cpu")
    optimizers = build_optimizers(model, config.optimizer)
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizers.step()
    optimizers.zero_grad()
    return tensors_of(model, optimizers)


def _as_rank(tensors: dict[str, Any], config: RunConfig, world_size: int, local_world_size: int) -> dict[str, Any]:
    """The same state dict as another rank holds it, without storage."""
    mesh = make_mesh(config.parallel, world_size=world_size, local_world_size=local_world_size, device_type="cpu")

    def stand_in(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: stand_in(entry) for key, entry in value.items()}
        if not isinstance(value, DTensor):
            return value
        local = torch.empty(0, dtype=value.dtype)
        shape, stride = value.shape, value.stride()
        return DTensor.from_local(local, mesh, value.placements, run_check=False, shape=shape, stride=stride)

    found: dict[str, Any] = stand_in(tensors)
    return found


def _plan(tensors: dict[str, Any], rank: int) -> SavePlan:
    planner = StagedPlanner({})
    planner.set_up_planner(flatten_below(tensors), is_coordinator=rank == 0)
    return planner.create_local_plan()


def _results(rank: int, plan: SavePlan, streams: int) -> list[WriteResult]:
    """What a rank's writer reports: `streams` files, in each of them items one after another."""
    found, ends = [], [0] * streams
    for number, item in enumerate(plan.items):
        size = 4
        for length in item.tensor_data.chunk.sizes if item.tensor_data is not None else ():
            size *= length
        stream = number % streams
        info = _StorageInfo(f"__{rank}_{stream}.distcp", ends[stream], size)
        found.append(WriteResult(item.index, size, info))
        ends[stream] += size
    return found


def _reader(root: str) -> CheckpointReader:
    store = open_store(root).child(NAME)
    path = Path(root) / NAME / METADATA
    entry = FileEntry(bytes=path.stat().st_size, sha256=sha256_of(path))
    committed = Committed(
        nonce="",
        run="big",
        step=1,
        tokens=0,
        epoch=0.0,
        attempt=1,
        world_size=1,
        loss=0.0,
        config_sha256="",
        model_sha256="",
        dataset_sha256="",
        tokenizer_sha256="",
        committed_at=datetime.now(UTC),
        duration_seconds=0.0,
        bytes=entry.bytes,
        files={METADATA: entry},
    )
    checkpoint = Checkpoint(store, committed, {METADATA: entry.bytes})
    return CheckpointReader(VerifiedFiles(checkpoint, Path(), keep=True), streams=1)
