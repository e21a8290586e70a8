"""Step times by the formula of `gpt-run plan`, fitted on the tiny presets, against larger models it never saw.

    python -m benchmarks.plan_time [--rounds N] [--json]

The formula (`trainer.plan.speed.step_seconds`) is a sum of works over rates. As a GPU's, the rate of arithmetic is the
machine's own, here that of one large matrix product: the tiny presets are all of one width, whose products are too
small to tell it. The rate of memory traffic and the time per launch are fitted to measured steps of the three tiny
presets at a few batch sizes and lengths; then steps of models of 8M to 51M parameters are foretold and measured. One
thread, and the processor's time of the process, so that neighbours count little. Bar: within 15% for every model that
was held out.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from scipy.optimize import nnls

from benchmarks.common import hardware
from trainer.config import RunConfig
from trainer.config_file import load_run_config
from trainer.model.decoder import Decoder
from trainer.model.init import initialise
from trainer.plan.speed import Rates, StepWork, step_seconds, step_work
from trainer.train.optimizer import build_optimizers
from trainer.train.step import Flags, StepContext, train_step

BAR = 0.15
FITTED: list[tuple[str, int, int]] = [
    (preset, sequences, length)
    for preset in ("tiny-gpt2", "tiny-llama", "tiny-neox")
    for sequences, length in ((1, 256), (4, 128), (8, 256), (16, 64))
]
_LARGER = "model.context=512"
HELD_OUT: dict[str, tuple[str, int, int, list[str]]] = {
    "gpt2 8M": ("tiny-gpt2", 4, 256, ["model.layers=8", "model.width=256"]),
    "llama 12M": ("tiny-llama", 4, 256, ["model.layers=8", "model.width=256", "model.ffn_width=704"]),
    "neox 20M": ("tiny-neox", 2, 512, [_LARGER, "model.layers=6", "model.width=384", "model.heads=6"]),
    "gpt2 29M": ("tiny-gpt2", 2, 512, [_LARGER, "model.layers=8", "model.width=512", "model.heads=8"]),
    "gpt2 51M": ("tiny-gpt2", 2, 512, [_LARGER, "model.layers=8", "model.width=512", "model.vocab_size=50257"]),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7, help="measured steps of each model (default 7)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    torch.set_num_threads(1)
    samples = [measure(run_of(*case), options.rounds) for case in FITTED]
    rates = fit(samples, matmul_flops_per_second())
    results: list[dict[str, Any]] = []
    for name, case in HELD_OUT.items():
        work, seconds = measure(run_of(*case), options.rounds)
        planned = step_seconds(work, rates)
        results.append({"model": name, "measured": seconds, "planned": planned, "ratio": planned / seconds})
    fitted = [step_seconds(work, rates) / seconds for work, seconds in samples]
    report: dict[str, Any] = {
        "bar": BAR,
        "hardware": hardware(),
        "rates": vars(rates),
        "worst": max(abs(result["ratio"] - 1) for result in results),
        "worst_fitted": max(abs(ratio - 1) for ratio in fitted),
        "results": results,
    }
    if options.json:
        print(json.dumps(report))
        return
    print({key: f"{value:.3g}" for key, value in vars(rates).items()}, f"fitted: worst {report['worst_fitted']:.0%}")
    for result in results:
        print(
            f"{result['model']:10} measured {result['measured']:.3f} s  planned {result['planned']:.3f} s  "
            f"ratio {result['ratio']:.2f}"
        )


def run_of(preset: str, sequences: int, length: int, overrides: Sequence[str] = ()) -> RunConfig:
    """A preset with one micro-batch of so many sequences."""
    batch = (f"batch.sequences={sequences}", f"batch.micro_sequences={sequences}", f"sequence_length={length}")
    return load_run_config(preset, [*batch, *overrides])


def measure(config: RunConfig, rounds: int) -> tuple[StepWork, float]:
    """The work of a step and the median of the processor's seconds that it takes."""
    with torch.device("meta"):
        model = Decoder(config.model)
    model.to_empty(device="cpu")
    initialise(model, seed=1)
    context = StepContext(
        model=model,
        optimizers=build_optimizers(model, config.optimizer),
        parallel=config.parallel,
        device=torch.device("cpu"),
        world_size=1,
        batch_sequences=config.batch.sequences,
        micro_sequences=config.batch.micro_sequences,
        clip_norm=config.optimizer.clip_norm,
        scaler=None,
    )
    rows = np.random.default_rng(1).integers(
        config.model.vocab_size, size=(config.batch.sequences, config.sequence_length + 1), dtype=np.int64
    )
    seconds = []
    for _ in range(rounds + 2):
        started = time.process_time()
        train_step(context, rows, Flags)
        seconds.append(time.process_time() - started)
    # The first steps make the optimizer's state and warm the caches.
    return step_work(config, world_size=1, local_world_size=1), statistics.median(seconds[2:])


def matmul_flops_per_second(size: int = 2048, rounds: int = 9) -> float:
    """FLOP per second of a product of two square fp32 matrices."""
    left, right = torch.randn(size, size), torch.randn(size, size)
    seconds = []
    for _ in range(rounds + 1):
        started = time.process_time()
        left @ right
        seconds.append(time.process_time() - started)
    return float(2 * size**3 / statistics.median(seconds[1:]))


def fit(samples: list[tuple[StepWork, float]], flops_per_second: float) -> Rates:
    """Rates with the least squared relative error, neither of them negative, given that of arithmetic."""
    works = np.array([[work.memory_bytes + work.update_bytes, work.kernels] for work, _ in samples])
    measured = np.array([seconds for _, seconds in samples])
    left = measured - np.array([work.flops for work, _ in samples]) / flops_per_second
    (memory, kernel), _ = nnls(works / measured[:, None], left / measured)
    return Rates(
        flops_per_second=flops_per_second,
        memory_bytes_per_second=1 / memory if memory else np.inf,
        link_bytes_per_second=np.inf,
        seconds_per_kernel=float(kernel),
    )


if __name__ == "__main__":
    main()
