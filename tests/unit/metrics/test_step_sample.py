"""Which seconds of communication are exposed, and when a step is profiled."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from trainer.metrics.monitor import rank_seconds
from trainer.metrics.step_sample import SampleClock, StepSample, exposed_seconds


class Event:
    """As Kineto's, of which there is no other way to have one with times of one's own."""

    def __init__(self, name: str, start: int, end: int, thread: int = 1) -> None:
        self._name, self._start, self._end, self._thread = name, start, end, thread

    def name(self) -> str:
        return self._name

    def start_ns(self) -> int:
        return self._start

    def duration_ns(self) -> int:
        return self._end - self._start

    def start_thread_id(self) -> int:
        return self._thread


def test_on_a_gpu_kernels_cover_nccl() -> None:
    events = [
        Event("ncclDevKernel_AllGather_RING_LL", 0, 10_000),
        Event("sm90_xmma_gemm_bf16", 2_000, 6_000),
        Event("Memcpy DtoD", 5_000, 7_000),
        Event("ncclDevKernel_ReduceScatter_Sum_f32", 20_000, 25_000),
        Event("ampere_gemm", 18_000, 40_000),
    ]
    assert exposed_seconds(events, on_gpu=True) == pytest.approx(5_000 / 1e9)


def test_on_a_cpu_a_collective_lasts_from_its_call_to_gloos_end() -> None:
    events = [
        Event("c10d::_allgather_base_", 1_000, 1_100),
        Event("gloo:all_gather", 8_000, 9_000, thread=2),  # the wait for a slow peer lies before
        Event("aten::mm", 2_000, 4_000),
        Event("aten::mm", 4_500, 8_500, thread=3),  # another rank's thread would not cover ours
        Event("aten::add", 10_000, 11_000),
    ]
    assert exposed_seconds(events, on_gpu=False) == pytest.approx(6_000 / 1e9)


spans = st.lists(st.tuples(st.integers(0, 200), st.integers(1, 50)), max_size=12)


@given(communication=spans, computation=spans)
def test_exposed_is_what_is_in_one_and_not_in_the_other(
    communication: list[tuple[int, int]], computation: list[tuple[int, int]]
) -> None:
    events = [Event("nccl", start, start + length) for start, length in communication]
    events += [Event("gemm", start, start + length) for start, length in computation]
    busy = {tick for start, length in computation for tick in range(start, start + length)}
    waiting = {tick for start, length in communication for tick in range(start, start + length)}
    assert exposed_seconds(events, on_gpu=True) == pytest.approx(len(waiting - busy) / 1e9)


def test_a_step_without_peers_has_nothing_to_wait_for() -> None:
    layer = torch.nn.Linear(256, 256)
    with StepSample(torch.device("cpu")) as sample:
        layer(torch.ones(64, 256)).sum().backward()
        sample.forward_backward_ends()
        layer.zero_grad()
    assert sample.parts is not None
    assert sample.parts.communication == 0
    assert sample.parts.forward_backward > 0
    assert sample.parts.optimizer > 0
    assert sample.cost_seconds > 0


def test_a_dear_sample_is_taken_seldom() -> None:
    clock = SampleClock(60.0)
    assert [clock.due(now) for now in (0.0, 1.0, 2.0, 3.0)] == [False, False, False, True]
    clock.sampled(3.0, 0.01)
    assert not clock.due(62.0)
    assert clock.due(63.0)
    clock.sampled(63.0, 3.0)
    assert not clock.due(1000.0)
    assert clock.due(1063.1)
    assert not any(SampleClock(0.0).due(1e9) for _ in range(10))


def test_the_slowest_rank_has_most_work_of_its_own() -> None:
    found = rank_seconds([1.0, 4.0, 2.0])
    assert found == {"rank_step_seconds": {"min": 1.0, "median": 2.0, "max": 4.0}, "slowest_rank": 1}
    assert rank_seconds([1.0, float("nan")]) == {}
