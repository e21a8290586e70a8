"""What a save costs training: 20 steps around an asynchronous save, around a synchronous one, and without any.

    python -m benchmarks.save_stall [--repeats N] [--store URL] [--json]

A GPT-2 of 98M parameters in fp32 with AdamW (1.2 GB of state) trains on this machine's cores and saves from there, so
what the upload takes from training is counted as well as what training waits for. The S3 server, which stands for
another machine, runs here at the lowest priority. The three kinds of 20 steps take turns; the extra time of a turn is
against the steps without a save of the same turn. Bar: the median for an asynchronous save is below 5%.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from benchmarks.common import hardware, median_ratio, write_random_tokens
from benchmarks.product import Product
from tests.integration.servers import s3_server
from trainer.checkpoint.attempts import claim_attempt
from trainer.checkpoint.config import KeepConfig
from trainer.checkpoint.save import Saver, SaveResult
from trainer.checkpoint.store import open_run

BAR_EXTRA_RATIO = 0.05
THREADS = 2
# Steps before the save; those after it share the cores with the upload.
STEPS_BEFORE = 2
VOCAB_SIZE = 16384
LENGTH = 256
KEEP = {"rolling": 1, "best": 0}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", help="URL of a store to use instead of an S3 server of our own")
    parser.add_argument("--repeats", type=int, default=5, help="turns of the three kinds (default 5)")
    parser.add_argument("--steps", type=int, default=20, help="steps of each kind in a turn (default 20)")
    parser.add_argument("--layers", type=int, default=12, help="fewer for a quick try; the figure is for 12")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    torch.set_num_threads(THREADS)
    with tempfile.TemporaryDirectory() as name, store_url(options.store, Path(name)) as url:
        result = measure(url, Path(name), layers=options.layers, steps=options.steps, repeats=options.repeats)
    print(json.dumps(result) if options.json else report(result))


def measure(url: str, folder: Path, *, layers: int, steps: int, repeats: int) -> dict[str, Any]:
    """Take turns after one asynchronous save that allocates the host buffers."""
    data = folder / "tokens.bin"
    write_random_tokens(data, vocab_size=VOCAB_SIZE, tokens=1_000_000)
    product = Product(run_file(url, data, layers))
    attempt = claim_attempt(open_run(url, "stall-sync"), world_size=1, config_sha256="0" * 64, base_checkpoint=None)
    synchronous = Saver(attempt, group=product.world.save_group, asynchronous=False, keep=KeepConfig(**KEEP))
    savers = {"none": None, "async": product.live.saver, "sync": synchronous}
    turn(product, product.live.saver, STEPS_BEFORE)

    seconds: dict[str, list[float]] = {kind: [] for kind in savers}
    saves: dict[str, list[SaveResult]] = {kind: [] for kind in savers}
    for number in range(repeats):
        kinds = list(savers)
        for kind in kinds[number % 3 :] + kinds[: number % 3]:
            spent, results = turn(product, savers[kind], steps)
            seconds[kind].append(spent)
            saves[kind] += results
    parameters = sum(parameter.numel() for parameter in product.live.step.model.parameters())
    committed = saves["async"][0].committed
    assert committed is not None, saves["async"][0].error
    del synchronous, savers
    product.close()
    return {
        "bar_extra_ratio": BAR_EXTRA_RATIO,
        "parameters": parameters,
        "checkpoint_bytes": committed.bytes,
        "steps": steps,
        "step_seconds": statistics.median(seconds["none"]) / steps,
        **{f"{kind}_extra_ratio": median_ratio(seconds[kind], seconds["none"]) - 1 for kind in ("async", "sync")},
        **{f"{kind}_stall_seconds": median_of(saves[kind], "stall_seconds") for kind in ("async", "sync")},
        **{f"{kind}_save_seconds": median_of(saves[kind], "duration_seconds") for kind in ("async", "sync")},
        "seconds": seconds,
        "hardware": hardware(),
    }


def turn(product: Product, saver: Saver | None, steps: int) -> tuple[float, list[SaveResult]]:
    """Wall time of `steps` steps with a save by `saver` after the first few; what is left of it is waited for after."""
    started = time.perf_counter()
    product.run(STEPS_BEFORE)
    if saver is not None:
        saver.save(product.snapshot())
    product.run(steps - STEPS_BEFORE)
    spent = time.perf_counter() - started
    results = saver.wait() if saver is not None else []
    failed = [result.error for result in results if not result.ok]
    if failed:
        raise RuntimeError(f"a save failed: {failed[0]}")
    return spent, results


def median_of(saves: list[SaveResult], field: str) -> float:
    return float(statistics.median(getattr(save, field) for save in saves))


def run_file(url: str, data: Path, layers: int) -> dict[str, Any]:
    """GPT-2 at the width of the 124M model with a smaller vocabulary; one step takes seconds on two cores."""
    return {
        "name": "stall-async",
        "model": {
            "family": "gpt2",
            "vocab_size": VOCAB_SIZE,
            "context": LENGTH,
            "layers": layers,
            "width": 768,
            "heads": 12,
        },
        "sequence_length": LENGTH,
        "batch": {"sequences": 6, "micro_sequences": 6},
        "data": {"train": str(data)},
        "checkpoint": {"store": url, "keep": KEEP},
    }


def report(result: dict[str, Any]) -> str:
    """The figures for people."""
    lines = [
        f"{result['parameters']:,} parameters, {result['checkpoint_bytes'] / 1e9:.2f} GB a save, "
        f"{result['step_seconds']:.2f} s a step; extra time of {result['steps']} steps around a save:"
    ]
    lines += [
        f"  {kind:5} {result[f'{kind}_extra_ratio']:7.2%}  training waited {result[f'{kind}_stall_seconds']:.2f} s, "
        f"the save took {result[f'{kind}_save_seconds']:.1f} s"
        for kind in ("async", "sync")
    ]
    return "\n".join([*lines, f"bar: below {result['bar_extra_ratio']:.0%} for async"])


@contextlib.contextmanager
def store_url(given: str | None, folder: Path) -> Iterator[str]:
    """The given store, or an S3 server on this machine with its clients' environment."""
    if given is not None:
        yield given
        return
    # It stands for another machine's, and must not take the time of this one's steps.
    with s3_server(folder / "s3", niceness=19) as server:
        os.environ.update(server.environment)
        yield server.url


if __name__ == "__main__":
    main()
