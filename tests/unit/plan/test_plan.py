"""The plan as a whole: what fits, what is advised, what a search finds, and how fast it says a run is."""

from __future__ import annotations

import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from trainer.config_file import load_run_config, preset_names
from trainer.errors import UserError
from trainer.metrics.accelerators import ACCELERATORS, accelerator_names, by_cuda_name
from trainer.model.size import count_parameters
from trainer.plan.advice import give_advice, refuse_if_too_large
from trainer.plan.hardware import find_accelerator, make_cluster
from trainer.plan.plan import Assumptions, Plan, make_plan
from trainer.plan.request import Request, answer
from trainer.plan.search import cluster_sizes, search
from trainer.plan.speed import Rates, communication_bytes, step_seconds, step_work
from trainer.plan.text import print_plan

CONTRACT = [
    "parameters",
    "flops_per_token",
    "memory_bytes",
    "tokens_per_second",
    "hours",
    "cost",
    "advice",
    "contradictions",
]


def plan_of(name: str, gpu: str, gpus: int, *overrides: str, **assumptions: float) -> Plan:
    config = load_run_config(name, list(overrides))
    return make_plan(config, make_cluster(find_accelerator(gpu), gpus), Assumptions(**assumptions))  # type: ignore[arg-type]  # floats where ints are meant


@pytest.mark.parametrize("preset", preset_names())
def test_json_has_the_keys_of_the_contract(preset: str) -> None:
    document = answer(Request(load_run_config(preset), gpu="h100", gpus=1)).as_dict()
    assert list(document) == [*CONTRACT, "losses"]
    assert document["parameters"] == count_parameters(load_run_config(preset).model)
    assert all(isinstance(size, int) for size in document["memory_bytes"].values())


def test_a_law_says_nothing_of_a_run_that_it_was_not_made_for() -> None:
    """It would foretell more than an untrained model has."""
    small = plan_of("tiny-gpt2", "cpu", 1)
    assert set(small.losses.values()) == {None}
    printed = io.StringIO()
    print_plan(small, Console(file=printed, width=200))
    assert printed.getvalue().count("not made for so small a run") == len(small.losses)
    long = plan_of("tiny-gpt2", "cpu", 1, "steps=10000")
    assert all(loss is not None and loss < long.untrained_loss for loss in long.losses.values())


def test_the_h100_run_takes_what_arithmetic_says() -> None:
    plan = plan_of("gpt-1b-h100", "h100", 8)
    assert plan.tokens == 100_000 * 512 * 2048
    assert plan.hours is not None
    # 104.9B tokens at the typical speed, plus a little for failures.
    assert plan.hours == pytest.approx(plan.tokens / plan.typical.tokens_per_second / 3600, rel=0.01)
    assert plan.cost == pytest.approx(plan.hours * 8 * 3.0)
    assert plan.low.tokens_per_second < plan.typical.tokens_per_second < plan.high.tokens_per_second
    # The throughput that the run's authors saw lies inside: 91,000 tokens/s per GPU.
    assert plan.low.tokens_per_second / 8 < 91_000 < plan.high.tokens_per_second / 8


def test_published_speeds_on_h100_lie_in_the_range() -> None:
    # Tokens/s per GPU: llm.c 124M and 1558M; llm-foundry 1B at 2048.
    small = plan_of("gpt2-124m", "h100", 8)
    large = plan_of(
        *("gpt2-124m", "h100", 8),
        *("model.layers=48", "model.width=1600", "model.heads=25", "batch.micro_sequences=16"),
    )
    foundry = plan_of("neox-1.4b", "h100", 8, "sequence_length=2048", "batch.sequences=512")
    for plan, published in ((small, 468e3), (large, 46.8e3), (foundry, 45.5e3)):
        assert plan.low.tokens_per_second / 8 <= published <= plan.high.tokens_per_second / 8 * 1.05


def test_a_measured_speed_replaces_the_estimate() -> None:
    plan = plan_of("gpt-1b-h100", "h100", 8, measured_mfu_ratio=0.4)
    assert plan.low.mfu_ratio == plan.high.mfu_ratio == pytest.approx(0.4)
    plan = plan_of("gpt-1b-h100", "h100", 8, measured_tokens_per_second_per_gpu=50_000.0)
    assert plan.typical.tokens_per_second == pytest.approx(400_000)


def test_epochs_need_the_size_of_the_set() -> None:
    assert plan_of("llama-1.36b", "h20", 4).hours is None
    known = plan_of("llama-1.36b", "h20", 4, dataset_tokens=6_000_000_000)
    assert known.steps == 11445
    assert any("few for" in sentence for sentence in give_advice(known))


def test_a_run_that_does_not_fit_says_by_how_much_and_what_helps() -> None:
    plan = plan_of("neox-1.4b", "l40s", 2, "batch.micro_sequences=16", "parallel.shard=none")
    assert not plan.fits
    with pytest.raises(UserError) as raised:
        refuse_if_too_large(plan)
    message = str(raised.value)
    assert "GB more than it has" in message
    assert "helps most" in message
    assert "at most 48.0 GB" in message


@pytest.mark.parametrize(
    ("overrides", "gpus", "said"),
    [
        (("parallel.recompute=full",), 8, "Recomputation is not needed"),
        (("parallel.shard=full",), 8, "parallel.shard=grads_and_optimizer fits too"),
        (("parallel.offload=true",), 8, "Offload is not needed"),
        (("parallel.compile=false",), 8, "parallel.compile=true"),
        (("parallel.shard=full",), 16, "parallel.shard=hybrid"),
        (("model.heads=16",), 8, "Heads of 96"),
        (("batch.micro_sequences=2",), 8, "Micro-batches of 16 fit"),
        (("batch.sequences=500",), 8, "make batch.sequences a multiple"),
        (("batch.sequences=9", "batch.micro_sequences=1"), 8, "44% of the step's work"),
        (("checkpoint.every_seconds=86400", "checkpoint.every_steps=0"), 64, "checkpoint.every_seconds="),
        (("model.vocab_size=50257",), 8, "50,304 rows"),
        (("steps=300000",), 8, "beyond compute-optimal"),
    ],
)
def test_advice(overrides: tuple[str, ...], gpus: int, said: str) -> None:
    sentences = give_advice(plan_of("gpt-1b-h100", "h100", gpus, *overrides))
    assert any(said in sentence for sentence in sentences), sentences


def test_advice_says_what_fits_on_fewer_and_more() -> None:
    sentences = give_advice(plan_of("neox-1.4b", "l40s", 2, "batch.micro_sequences=16"))
    (fit,) = [sentence for sentence in sentences if sentence.startswith("1 x l40s")]
    assert "2 x l40s" in fit
    assert "4 x l40s" in fit


def test_fastest_uses_all_gpus_and_cheapest_does_not_cost_more() -> None:
    config = load_run_config("gpt-1b-h100")
    clusters = cluster_sizes(make_cluster(find_accelerator("h100"), 8))
    assert [cluster.gpus for cluster in clusters] == [1, 2, 4, 8]
    fastest = search(config, clusters, Assumptions(), "fastest")
    cheapest = search(config, clusters, Assumptions(), "cheapest")
    assert fastest[0].plan.cluster.gpus == 8
    assert all(found.plan.fits for found in fastest + cheapest)
    assert fastest[0].plan.hours == min(found.plan.hours or 1e9 for found in fastest)
    assert cheapest[0].plan.cost == min(found.plan.cost or 1e9 for found in fastest)


def test_a_search_that_finds_nothing_says_so() -> None:
    config = load_run_config("neox-1.4b", ["model.layers=400"])
    clusters = cluster_sizes(make_cluster(find_accelerator("l4"), 2))
    with pytest.raises(UserError, match="no configuration"):
        search(config, clusters, Assumptions(), "fastest")
    with pytest.raises(UserError, match="no price is known"):
        search(load_run_config("tiny-gpt2"), clusters, Assumptions(), "cheapest")


@pytest.mark.parametrize(
    ("word", "name"), [("h100", "h100-sxm"), ("H20", "h20"), ("NVIDIA L40S", "l40s"), ("cpu", "cpu-24-core")]
)
def test_words_for_accelerators(word: str, name: str) -> None:
    assert find_accelerator(word).name == name


def test_an_unknown_gpu_lists_the_known_ones() -> None:
    with pytest.raises(UserError) as raised:
        find_accelerator("h10")
    assert all(name in str(raised.value) for name in accelerator_names())
    assert "did you mean `h20`" in str(raised.value) or "did you mean" in str(raised.value)


def test_machines_are_full() -> None:
    assert make_cluster(find_accelerator("h100"), 16).machines == 2
    assert make_cluster(find_accelerator("h100"), 4).machines == 1
    with pytest.raises(UserError, match="machines of 8"):
        make_cluster(find_accelerator("h100"), 12)


def test_every_accelerator_is_found_by_its_own_cuda_name_and_has_sources() -> None:
    for entry in ACCELERATORS:
        assert by_cuda_name(f"NVIDIA {entry.cuda_name} 80GB") is entry
        assert entry.hardware_source
        assert entry.price_source
        assert 0 < entry.matmul_ratio < 1
    assert len(set(accelerator_names())) == len(ACCELERATORS)


def test_communication_of_a_step_by_hand() -> None:
    config = load_run_config("neox-1.4b", ["batch.sequences=32", "batch.micro_sequences=4"])
    parameters = 1_414_455_296
    # Two micro-batches on each of four ranks: gathered twice in bf16 and reduced in fp32 each time, 3/4 sent.
    sent = communication_bytes(config, world_size=4, local_world_size=4)
    assert sent == pytest.approx(2 * (2 * 2 + 4) * parameters * 3 / 4)
    assert communication_bytes(config, world_size=1, local_world_size=1) == 0


@settings(max_examples=30, deadline=None)
@given(st.sampled_from([1, 2, 4, 8]), st.floats(1e11, 1e15), st.floats(1e9, 1e13), st.floats(1.01, 4))
def test_faster_machines_never_take_longer(ranks: int, flops: float, bandwidth: float, factor: float) -> None:
    work = step_work(load_run_config("tiny-llama"), world_size=ranks, local_world_size=ranks)
    now = step_seconds(work, Rates(flops, bandwidth, bandwidth, 1e-5))
    for faster in (
        Rates(flops * factor, bandwidth, bandwidth, 1e-5),
        Rates(flops, bandwidth * factor, bandwidth, 1e-5),
        Rates(flops, bandwidth, bandwidth * factor, 1e-5),
        Rates(flops, bandwidth, bandwidth, 1e-5 / factor),
    ):
        assert step_seconds(work, faster) <= now


def test_a_plan_counts_the_teacher_or_says_that_it_cannot() -> None:
    model = "{family: gpt2, vocab_size: 8192, context: 256, layers: 4, width: 128, heads: 4}"
    unknown = plan_of("tiny-distill", "h100", 1)
    known = plan_of("tiny-distill", "h100", 1, f"distill.teacher_model={model}")
    assert any("teacher is not counted" in sentence for sentence in give_advice(unknown))
    assert not any("teacher is not counted" in sentence for sentence in give_advice(known))
    assert known.parameters == unknown.parameters
    teacher = 2 * (1_874_688 - 256 * 128) + 4 * 4 * 128 * 256
    assert known.flops_per_token == unknown.flops_per_token + teacher
    assert known.executed_flops_per_token > unknown.executed_flops_per_token
    assert known.memory.total > unknown.memory.total
    assert known.typical.tokens_per_second < unknown.typical.tokens_per_second
