"""Tokens per second on two CPU cores: this trainer, Accelerate with Transformers' GPT-2, and a plain loop.

    python -m benchmarks.throughput_cpu [--size 1m|10m|50m] [--rounds N] [--json]

The same GPT-2 in fp32 on all sides: the same sizes, batch, threads, attention kernel, fused AdamW and clipping, and
batches from the same file. This trainer runs as it does in a job of one rank, loader and all. Each side lives in a
process of its own; rounds are interleaved, and the ratio of a round is our tokens per second over the other side's.
Bar: a median ratio of at least 0.97 against the faster of the two.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks.common import Side, Timing, interleave, measure_sizes, median_ratio, write_random_tokens
from benchmarks.plain_gpt import PlainGPT, RandomWindows, adamw
from benchmarks.product import Product

BAR = 0.97
THREADS = 2
LR = 1e-3
CLIP_NORM = 1.0
DATA_TOKENS = 4_000_000
OURS = "gpt-run"


@dataclass(frozen=True)
class Size:
    """A GPT-2 and its batch; head width 32 or 64."""

    vocab_size: int
    layers: int
    width: int
    heads: int
    length: int
    sequences: int
    steps_per_round: int


SIZES = {
    "1m": Size(vocab_size=8192, layers=4, width=96, heads=3, length=256, sequences=8, steps_per_round=40),
    "10m": Size(vocab_size=16384, layers=8, width=256, heads=4, length=512, sequences=8, steps_per_round=6),
    "50m": Size(vocab_size=50257, layers=8, width=512, heads=8, length=512, sequences=8, steps_per_round=2),
}


def main() -> None:
    measure_sizes(__doc__, SIZES, compare, print_table, bar_ratio=BAR, threads=THREADS)


def compare(size: Size, *, rounds: int) -> dict[str, Any]:
    """Measure all sides at one size."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        data = folder / "tokens.bin"
        write_random_tokens(data, vocab_size=size.vocab_size, tokens=DATA_TOKENS)
        sides = {
            OURS: Side(Ours, size, folder, threads=THREADS),
            "accelerate": Side(AccelerateLoop, size, data, threads=THREADS),
            "plain": Side(PlainLoop, size, data, threads=THREADS),
        }
        try:
            # The first round allocates optimizer state and warms every cache; its losses are where the sides began.
            warm = interleave(sides, rounds=1, steps=max(2, size.steps_per_round))
            timings = interleave(sides, rounds=rounds, steps=size.steps_per_round)
        finally:
            for side in sides.values():
                side.close()
    return summarise(size, warm, timings)


def summarise(size: Size, warm: dict[str, list[Timing]], timings: dict[str, list[Timing]]) -> dict[str, Any]:
    """Medians over rounds; exits with 1 where a side did not learn."""
    tokens = size.steps_per_round * size.sequences * size.length
    seconds = {side: [timing.seconds for timing in list_] for side, list_ in timings.items()}
    losses = {side: (warm[side][0].losses[0], timings[side][-1].losses[-1]) for side in timings}
    stuck = [side for side, (first, last) in losses.items() if not last < first]
    if stuck:
        sys.exit(f"the loss of {', '.join(stuck)} did not go down: {losses}")
    ratios = {side: median_ratio(seconds[side], seconds[OURS]) for side in seconds if side != OURS}
    return {
        **asdict(size),
        "parameters": parameters(size),
        "rounds": len(seconds[OURS]),
        "tokens_per_second": {side: tokens / statistics.median(list_) for side, list_ in seconds.items()},
        "ratio": ratios,
        "ratio_to_faster": min(ratios.values()),
        "loss_first_last": losses,
    }


def parameters(size: Size) -> int:
    """Parameters of the plain model, which all sides share."""
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in plain_model(size).parameters())


def print_table(name: str, result: dict[str, Any]) -> None:
    print(f"{name}: {result['parameters']:,} parameters, {result['sequences']} x {result['length']} tokens a step")
    for side, rate in result["tokens_per_second"].items():
        first, last = result["loss_first_last"][side]
        ratio = "" if side == OURS else f"  ours / this: {result['ratio'][side]:.3f}"
        print(f"  {side:12} {rate:10,.0f} tokens/s  loss {first:.2f} -> {last:.2f}{ratio}")
    print(f"  against the faster: {result['ratio_to_faster']:.3f} (bar {BAR})", flush=True)


class Ours(Product):
    """The product at world size 1."""

    def __init__(self, size: Size, folder: Path) -> None:
        super().__init__(
            {
                "name": "throughput",
                "model": {
                    "family": "gpt2",
                    "vocab_size": size.vocab_size,
                    "context": size.length,
                    "layers": size.layers,
                    "width": size.width,
                    "heads": size.heads,
                },
                "sequence_length": size.length,
                "batch": {"sequences": size.sequences, "micro_sequences": size.sequences},
                "data": {"train": str(folder / "tokens.bin")},
                "optimizer": {"type": "adamw", "lr": LR, "clip_norm": CLIP_NORM},
                "checkpoint": {"store": str(folder / "runs")},
            }
        )


class AccelerateLoop:
    """Transformers' GPT-2 under Accelerate, as its documentation writes a loop."""

    def __init__(self, size: Size, data: Path) -> None:
        from accelerate import Accelerator
        from transformers import GPT2Config, GPT2LMHeadModel

        config = GPT2Config(
            vocab_size=size.vocab_size,
            n_positions=size.length,
            n_embd=size.width,
            n_layer=size.layers,
            n_head=size.heads,
            resid_pdrop=0.0,
            embd_pdrop=0.0,
            attn_pdrop=0.0,
            use_cache=False,
            attn_implementation="sdpa",  # type: ignore[call-arg]  # a keyword of its base class
        )
        model = GPT2LMHeadModel(config)
        model.train()
        self._accelerator = Accelerator(cpu=True, mixed_precision="no")
        self._model, self._optimizer = self._accelerator.prepare(model, adamw(model, LR))
        self._batches = RandomWindows(data, sequences=size.sequences, length=size.length)

    def run(self, steps: int) -> list[float]:
        losses = []
        for _ in range(steps):
            inputs_BT, _ = self._batches.next()
            # Transformers shifts labels by itself.
            loss = self._model(input_ids=inputs_BT, labels=inputs_BT).loss
            self._accelerator.backward(loss)
            self._accelerator.clip_grad_norm_(self._model.parameters(), CLIP_NORM)
            self._optimizer.step()
            self._optimizer.zero_grad()
            losses.append(loss.item())
        return losses


class PlainLoop:
    """plain_gpt.py in the shortest loop there is."""

    def __init__(self, size: Size, data: Path) -> None:
        self._model = plain_model(size)
        self._optimizer = adamw(self._model, LR)
        self._batches = RandomWindows(data, sequences=size.sequences, length=size.length)

    def run(self, steps: int) -> list[float]:
        losses = []
        for _ in range(steps):
            inputs_BT, targets_BT = self._batches.next()
            loss = self._model(inputs_BT, targets_BT)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self._model.parameters(), CLIP_NORM)
            self._optimizer.step()
            self._optimizer.zero_grad(set_to_none=True)
            losses.append(loss.item())
        return losses


def plain_model(size: Size) -> PlainGPT:
    """The plain GPT-2 of a size."""
    return PlainGPT(
        vocab_size=size.vocab_size, context=size.length, layers=size.layers, width=size.width, heads=size.heads
    )


if __name__ == "__main__":
    main()
