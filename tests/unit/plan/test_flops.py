"""FLOPs of the plan against what torch counts."""

from __future__ import annotations

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.plan_flops import counted_flops_per_token
from benchmarks.plan_memory_tracker import gpu_kernels
from trainer.config_file import load_run_config
from trainer.model.config import GPT2Config, LlamaConfig, ModelSettings
from trainer.model.decoder import Decoder
from trainer.model.size import executed_flops_per_token, flops_per_token, parameter_flops_per_token


@pytest.mark.parametrize("preset", ["gpt2-124m", "tiny-llama", "tiny-neox"])
def test_executed_flops_are_those_that_torch_counts(preset: str) -> None:
    config = load_run_config(preset)
    counted, _ = counted_flops_per_token(config)
    assert executed_flops_per_token(config.model, config.sequence_length) == pytest.approx(counted, rel=0.01)


def test_full_recomputation_repeats_the_blocks() -> None:
    config = GPT2Config(layers=2, width=128, heads=2, vocab_size=1024, context=64)
    with gpu_kernels(), torch.device("meta"):
        model = Decoder(config, recompute="full", loss_chunk_tokens=64)
        tokens_BT = torch.zeros(1, 64, dtype=torch.int64)
        with FlopCounterMode(display=False) as counter:
            model(tokens_BT, tokens_BT).backward()
    counted = counter.get_total_flops() / 64
    assert executed_flops_per_token(config, 64, "full") == pytest.approx(counted, rel=0.01)


@pytest.mark.parametrize("model", [GPT2Config(), LlamaConfig()])
def test_the_conventions_differ_by_attention(model: ModelSettings) -> None:
    difference = flops_per_token(model, 1024) - parameter_flops_per_token(model)
    assert difference == 12 * model.layers * model.width * 1024
