"""Memory of a step: against torch's tracker, and what has to hold for any run."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.plan_memory_tracker import tracked_bytes
from trainer.config import RunConfig
from trainer.config_file import load_run_config, preset_names
from trainer.errors import UserError
from trainer.plan.memory import Memory, plan_memory

# Two layers of each shape: the rest repeats them.
TRACKED = [
    ("tiny-gpt2", 1, ()),
    ("tiny-llama", 4, ("parallel.shard=none",)),
    ("tiny-neox", 4, ("parallel.shard=hybrid", "parallel.recompute=selective", "precision=bf16")),
    ("tiny-llama", 4, ("parallel.recompute=full", "precision=bf16", "batch.sequences=64")),
    ("tiny-gpt2", 4, ("parallel.shard=grads_and_optimizer", "precision=bf16", "batch.micro_sequences=1")),
    ("neox-1.4b-test", 1, ("parallel.recompute=full", "model.layers=2")),
    ("gpt2-124m", 4, ("parallel.recompute=full", "model.layers=2", "batch.sequences=128")),
]


def planned(config: RunConfig, ranks: int, local_ranks: int | None = None) -> Memory:
    return plan_memory(config, world_size=ranks, local_world_size=local_ranks or ranks)


@pytest.mark.parametrize(("preset", "ranks", "overrides"), TRACKED)
def test_plan_is_within_a_tenth_of_torchs_tracker(preset: str, ranks: int, overrides: tuple[str, ...]) -> None:
    config = load_run_config(preset, overrides)
    local = max(1, ranks // 2)
    tracked = tracked_bytes(config, world_size=ranks, local_world_size=local)["Total"]
    assert planned(config, ranks, local).tracked == pytest.approx(tracked, rel=0.1)


@pytest.mark.parametrize("preset", preset_names())
def test_parts_add_up_and_none_is_negative(preset: str) -> None:
    memory = planned(load_run_config(preset), 2)
    assert sum(memory.parts.values()) == memory.total
    assert min(memory.parts.values()) >= 0
    assert 0 < memory.tracked < memory.total


def test_weights_gradients_and_moments_of_one_rank() -> None:
    config = load_run_config("neox-1.4b", ["parallel.shard=none", "batch.sequences=8", "batch.micro_sequences=4"])
    memory = planned(config, 2)
    assert memory.weights == 4 * 1_414_455_296
    assert memory.optimizer_state == 8 * 1_414_455_296


def test_muon_keeps_one_moment_of_matrices() -> None:
    adamw = planned(load_run_config("neox-1.4b"), 1).optimizer_state
    muon = planned(load_run_config("neox-1.4b", ["optimizer.type=muon"]), 1).optimizer_state
    block_matrices = 24 * (4 * 2048 * 2048 + 2 * 2048 * 8192)
    assert adamw - muon == 4 * block_matrices


def test_offload_leaves_only_what_a_step_gathers() -> None:
    memory = planned(load_run_config("neox-1.4b", ["parallel.offload=true"]), 2)
    assert memory.weights == memory.optimizer_state == 0


def test_groups_that_do_not_divide_the_ranks_are_refused() -> None:
    config = load_run_config("tiny-gpt2", ["parallel.shard=hybrid", "parallel.hybrid_ranks=3"])
    with pytest.raises(UserError, match="does not divide"):
        planned(config, 4)


RUNS = st.fixed_dictionaries(
    {
        "parallel.shard": st.sampled_from(["full", "grads_and_optimizer", "none"]),
        "parallel.recompute": st.sampled_from(["none", "selective", "full"]),
        "precision": st.sampled_from(["fp32", "bf16"]),
        "batch.micro_sequences": st.sampled_from([1, 2, 4, 8]),
        "model.layers": st.integers(1, 8),
    }
)


def run_with(values: dict[str, Any], **changes: Any) -> RunConfig:
    keys = values | {key.replace("__", "."): value for key, value in changes.items()}
    return load_run_config("tiny-llama", [f"{key}={value}" for key, value in keys.items()])


@settings(max_examples=25, deadline=None)
@given(RUNS, st.sampled_from([2, 4, 8]))
def test_more_layers_and_larger_micro_batches_never_need_less(values: dict[str, Any], ranks: int) -> None:
    now = planned(run_with(values), ranks).total
    assert planned(run_with(values, model__layers=values["model.layers"] + 1), ranks).total > now
    # The batch grows too, so that the number of micro-batches stays.
    small = run_with(values, batch__sequences=8 * ranks, batch__micro_sequences=1)
    large = run_with(values, batch__sequences=16 * ranks, batch__micro_sequences=2)
    assert planned(large, ranks).total > planned(small, ranks).total


@settings(max_examples=25, deadline=None)
@given(RUNS, st.sampled_from([2, 4, 8]))
def test_sharding_and_recomputing_never_need_more(values: dict[str, Any], ranks: int) -> None:
    by_shard = [
        planned(run_with(values, parallel__shard=shard), ranks).total for shard in ("none", "grads_and_optimizer")
    ]
    assert by_shard[0] >= by_shard[1]
    kept = [
        planned(run_with(values, parallel__recompute=recompute), ranks).activations
        for recompute in ("none", "selective", "full")
    ]
    full = planned(run_with(values, parallel__recompute="full"), ranks).total
    none = planned(run_with(values, parallel__recompute="none"), ranks).total
    assert full <= none * 1.001
    assert kept[0] >= 0


TEACHER = "distill.teacher_model={family: gpt2, vocab_size: 8192, context: 256, layers: 4, width: 128, heads: 4}"


def test_a_teacher_lies_beside_the_student() -> None:
    alone = planned(load_run_config("tiny-distill"), 1)
    taught = planned(load_run_config("tiny-distill", [TEACHER]), 1)
    chunk = 8 * 256
    said = chunk * 128 * 4 + chunk * 8192 * (4 + 3 * 4)
    assert alone.teacher == 0
    assert taught.moment == "end of the loss"
    assert taught.teacher == 4 * 1_874_688 + said
    assert (taught.weights, taught.optimizer_state) == (alone.weights, alone.optimizer_state)
    cached = planned(load_run_config("tiny-distill", [TEACHER, "distill.top_k=8", "distill.cache=true"]), 1)
    assert cached.teacher == 0


def test_a_sharded_teacher_is_shared_but_for_its_root() -> None:
    config = load_run_config("tiny-distill", [TEACHER, "precision=bf16"])
    root = 8192 * 128 + 256 * 128 + 2 * 128
    difference = planned(config, 2).teacher - planned(config, 4).teacher
    assert difference == 2 * 1_874_688 / 2 - 2 * 1_874_688 / 4
    assert planned(config, 4).teacher > 2 * (1_874_688 / 4 + root)


def test_adapters_leave_frozen_weights_without_gradients_and_moments() -> None:
    tasks = ["task=finetune", "initial_weights=runs/base"]
    whole = planned(load_run_config("tiny-gpt2", tasks), 1)
    adapted = planned(load_run_config("tiny-gpt2", [*tasks, "lora.rank=4"]), 1)
    adapters = 4 * 4 * ((128 + 384) + (128 + 128))
    assert adapted.weights == whole.weights + 4 * adapters
    assert adapted.optimizer_state == 8 * adapters
    assert adapted.gradients <= 4 * adapters
    assert adapted.total < whole.total
