"""Tokens per second, MFU and peak memory of a reference run's model on one GPU.

    python -m benchmarks.throughput_gpu --preset gpt-1b-h100 [--micro N] [--no-compile] [--json]

The preset's model, sequence length and optimizer at world size 1 in the product's own step, on random tokens: no
download, no store. MFU counts 6N + 12LdT FLOP per token (PaLM, appendix B) against the GPU's dense bf16 peak. Goals on
an H100 SXM: 91,000 tokens/s for gpt-1b-h100, 45% MFU for gpt2-124m. `--preset tiny-gpt2` runs on a CPU too, to try the
script; any other preset without a GPU ends with exit code 2.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from benchmarks.common import hardware, write_random_tokens
from benchmarks.product import Product
from trainer.config_file import read_run_file
from trainer.errors import EXIT_USER_ERROR, UserError
from trainer.metrics.hardware import device_name, memory_bytes, peak_flops_per_second
from trainer.model.size import count_parameters, flops_per_token
from trainer.overrides import apply_override

SMOKE_PRESET = "tiny-gpt2"
PRESETS = ("gpt2-124m", "gpt-1b-h100", "llama-1.36b", "neox-1.4b", SMOKE_PRESET)
GOALS = {"gpt-1b-h100": {"tokens_per_second": 91_000}, "gpt2-124m": {"mfu_ratio": 0.45}}
# The first step compiles, the second allocates the optimizer's state, the third meets warm caches.
WARMUP_STEPS = 3
DATA_TOKENS = 4_000_000


def main() -> None:
    options = parse_arguments()
    if not torch.cuda.is_available() and options.preset != SMOKE_PRESET:
        print(
            f"error: preset {options.preset} and no GPU that torch {torch.__version__} can use\n"
            f"fix: run this on a machine with an NVIDIA GPU, or try the script with --preset {SMOKE_PRESET}",
            file=sys.stderr,
        )
        sys.exit(EXIT_USER_ERROR)
    try:
        with tempfile.TemporaryDirectory() as name:
            result = measure(run_file(options, Path(name)), steps=options.steps, preset=options.preset)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(EXIT_USER_ERROR)
    print(json.dumps(result) if options.json else report(result))


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", choices=PRESETS, default="gpt-1b-h100", help="the run (default gpt-1b-h100)")
    parser.add_argument("--micro", type=int, help="sequences of a micro-batch (default: the preset's)")
    parser.add_argument("--accumulate", type=int, default=4, help="micro-batches of a step (default 4)")
    parser.add_argument("--steps", type=int, default=20, help="timed steps (default 20)")
    parser.add_argument("--compile", action=argparse.BooleanOptionalAction, help="default: the preset's")
    parser.add_argument("--precision", choices=("fp32", "bf16", "fp16", "fp8"), help="default: the preset's")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="as in gpt-run train")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    return parser.parse_args()


def run_file(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """The preset on random tokens in `folder`, with the command line's changes."""
    raw = read_run_file(options.preset)
    data = folder / "tokens.bin"
    write_random_tokens(data, vocab_size=raw["model"]["vocab_size"], tokens=DATA_TOKENS)
    micro = options.micro or raw["batch"]["micro_sequences"]
    overrides = [
        f"data.train={data}",
        f"checkpoint.store={folder / 'runs'}",
        f"batch.micro_sequences={micro}",
        f"batch.sequences={micro * options.accumulate}",
        "evaluate.every_steps=0",
    ]
    if options.compile is not None:
        overrides.append(f"parallel.compile={str(options.compile).lower()}")
    if options.precision is not None:
        overrides.append(f"precision={options.precision}")
    for override in [*overrides, *options.set]:
        apply_override(raw, override)
    return raw


def measure(raw: dict[str, Any], *, steps: int, preset: str) -> dict[str, Any]:
    """Warm up, then time each step up to the end of its update on the GPU."""
    product = Product(raw)
    config, device = product.live.config, product.world.device
    losses = product.run(WARMUP_STEPS)
    seconds = []
    for _ in range(steps):
        started = time.perf_counter()
        losses += product.run(1)
        if device.type == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - started)
    tokens_per_second = config.batch.sequences * config.sequence_length / statistics.median(seconds)
    flops, peak = flops_per_token(config.model, config.sequence_length), peak_flops_per_second(device_name(device))
    memory = memory_bytes(device)
    product.close()
    return {
        "preset": preset,
        "parameters": count_parameters(config.model),
        "device": device_name(device),
        "precision": config.precision,
        "compile": config.parallel.compile,
        "recompute": config.parallel.recompute,
        "sequence_length": config.sequence_length,
        "micro_sequences": config.batch.micro_sequences,
        "sequences": config.batch.sequences,
        "tokens_per_second": tokens_per_second,
        "mfu_ratio": tokens_per_second * flops / peak if peak else None,
        "memory_bytes": memory,
        "step_seconds": seconds,
        "loss_first_last": [losses[0], losses[-1]],
        "goal": GOALS.get(preset),
        "hardware": hardware(),
    }


def report(result: dict[str, Any]) -> str:
    """The figures for people."""
    mfu = f", MFU {result['mfu_ratio']:.1%}" if result["mfu_ratio"] is not None else ""
    first, last = result["loss_first_last"]
    return (
        f"{result['preset']} ({result['parameters']:,} parameters) on {result['device']}, {result['precision']}"
        f"{', compiled' if result['compile'] else ''}, {result['sequences']} x {result['sequence_length']} tokens in "
        f"micro-batches of {result['micro_sequences']}: {result['tokens_per_second']:,.0f} tokens/s{mfu}, "
        f"peak memory {result['memory_bytes'] / 2**30:.1f} GiB, loss {first:.2f} -> {last:.2f}"
        + (f" (goal: {result['goal']})" if result["goal"] else "")
    )


if __name__ == "__main__":
    main()
