"""FLOPs per token and parameters that `gpt-run plan` computes, against torch's FlopCounterMode and the built models.

    python -m benchmarks.plan_flops [--json]

Runs forward and backward of one sequence on fake tensors with the attention kernel of GPUs, so it needs no GPU.
"""

from __future__ import annotations

import argparse
import json
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.common import hardware
from benchmarks.plan_memory_tracker import gpu_kernels
from trainer.config import RunConfig
from trainer.config_file import load_run_config, preset_names
from trainer.model.decoder import Decoder
from trainer.model.size import count_parameters, executed_flops_per_token, flops_per_token

BAR = 0.01


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    results = [compare(name, load_run_config(name)) for name in preset_names()]
    worst = max(abs(result["ratio"] - 1) for result in results)
    equal = all(result["parameters"] == result["built_parameters"] for result in results)
    report = {"bar": BAR, "hardware": hardware(), "worst": worst, "parameters_equal": equal, "results": results}
    if options.json:
        print(json.dumps(report))
        return
    for result in results:
        print(
            f"{result['preset']:15} {result['parameters']:13,} parameters  counted {result['counted']:.5g}  planned "
            f"{result['executed']:.5g} FLOP/token  ratio {result['ratio']:.5f}  6N + 12LdT {result['convention']:.5g}"
        )


def compare(name: str, config: RunConfig) -> dict[str, Any]:
    """Counted and planned figures of one preset."""
    counted, built = counted_flops_per_token(config)
    executed = executed_flops_per_token(config.model, config.sequence_length)
    return {
        "preset": name,
        "parameters": count_parameters(config.model),
        "built_parameters": built,
        "counted": counted,
        "executed": executed,
        "ratio": executed / counted,
        "convention": flops_per_token(config.model, config.sequence_length),
    }


def counted_flops_per_token(config: RunConfig) -> tuple[float, int]:
    """What torch counts for forward and backward of one sequence, and the built model's parameters without padding."""
    with gpu_kernels(), FakeTensorMode():
        # In one chunk, since the counter does not know the product in place that adds up chunks.
        model = Decoder(config.model, loss_chunk_tokens=config.sequence_length)
        tokens_BT = torch.zeros(1, config.sequence_length, dtype=torch.int64)
        with FlopCounterMode(display=False) as counter:
            model(tokens_BT, tokens_BT).backward()
        built = sum(parameter.numel() for parameter in model.parameters())
    tables = 1 if config.model.tied else 2
    padding = tables * (config.model.padded_vocab_size - config.model.vocab_size) * config.model.width
    return counter.get_total_flops() / config.sequence_length, built - padding


if __name__ == "__main__":
    main()
