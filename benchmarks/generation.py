"""Tokens per second of generation on two CPU cores: this decoder against Transformers' `generate`, both with a cache.

    python -m benchmarks.generation [--size 1m|10m|124m] [--rounds N] [--json]

The same random GPT-2 in fp32 on both sides, written once as a Hugging Face folder that both load; one prompt of 32
tokens, greedy, no end-of-text token, token ids on both sides (no text). The ids have to be the same. Each side lives in
a process of its own; rounds are interleaved, and the ratio of a round is our tokens per second over the other side's.
Bar: a median ratio of at least 1.5. Exits with 1 where ids differ.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks.common import Side, Trainable, interleave, measure_sizes, median_ratio
from trainer.model.config import GPT2Config
from trainer.model.decoder import Decoder
from trainer.model.hf import export_hf

BAR = 1.5
THREADS = 2
PROMPT_TOKENS = 32
OURS, THEIRS = "gpt-run", "transformers"


@dataclass(frozen=True)
class Size:
    """A GPT-2, and the tokens that each side makes in a round."""

    vocab_size: int
    layers: int
    width: int
    heads: int
    context: int
    tokens: int


SIZES = {
    "1m": Size(vocab_size=8192, layers=4, width=96, heads=3, context=256, tokens=200),
    "10m": Size(vocab_size=16384, layers=8, width=256, heads=4, context=512, tokens=200),
    "124m": Size(vocab_size=50257, layers=12, width=768, heads=12, context=1024, tokens=50),
}


def main() -> None:
    measure_sizes(__doc__, SIZES, compare, print_line, bar_ratio=BAR, threads=THREADS)


def compare(size: Size, *, rounds: int) -> dict[str, Any]:
    """Measure both sides at one size."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name, "model")
        parameters = write_model(size, folder)
        sides = {side: Side(build, str(folder), threads=THREADS) for side, build in BUILDERS.items()}
        try:
            interleave(sides, rounds=1, steps=size.tokens)
            timings = interleave(sides, rounds=rounds, steps=size.tokens)
        finally:
            for side in sides.values():
                side.close()
    ids = {side: timings[side][0].losses for side in timings}
    if ids[OURS] != ids[THEIRS]:
        sys.exit(f"the sides made different tokens: {ids}")
    seconds = {side: [timing.seconds for timing in list_] for side, list_ in timings.items()}
    return {
        **asdict(size),
        "parameters": parameters,
        "rounds": rounds,
        "tokens_per_second": {side: size.tokens / statistics.median(list_) for side, list_ in seconds.items()},
        "ratio": median_ratio(seconds[THEIRS], seconds[OURS]),
    }


def write_model(size: Size, folder: Path) -> int:
    """A random model whose most likely token is far ahead of the next; returns the number of its parameters."""
    config = GPT2Config(
        vocab_size=size.vocab_size, layers=size.layers, width=size.width, heads=size.heads, context=size.context
    )
    model = Decoder(config)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.normal_(1.0 if "norm.weight" in name else 0.0, 0.1, generator=generator)
    export_hf({name: value.detach() for name, value in model.named_parameters()}, config, folder)
    return sum(parameter.numel() for parameter in model.parameters())


def prompt(vocab_size: int) -> list[int]:
    """The same tokens for both sides."""
    drawn: list[int] = torch.randint(
        0, vocab_size, (PROMPT_TOKENS,), generator=torch.Generator().manual_seed(2)
    ).tolist()
    return drawn


class Ours:
    """The product's own way from prompt to tokens."""

    def __init__(self, folder: str) -> None:
        from trainer.evaluate.pretrained import load_pretrained

        self._model = load_pretrained(folder).model

    def run(self, steps: int) -> list[float]:
        from trainer.evaluate.generate import TokenBatch
        from trainer.evaluate.sampling import Sampling

        ids = prompt(self._model.config.vocab_size)
        tokens = TokenBatch(self._model, [ids], Sampling(temperature=0), [1], max_tokens=steps)
        return [tokens.step()[0] for _ in range(steps)]


class Transformers:
    """`generate` as its documentation has it."""

    def __init__(self, folder: str) -> None:
        import transformers

        transformers.utils.logging.set_verbosity_error()
        self._model = transformers.AutoModelForCausalLM.from_pretrained(folder, attn_implementation="sdpa").eval()
        self._model.generation_config.eos_token_id = None

    def run(self, steps: int) -> list[float]:
        ids_1T = torch.tensor([prompt(self._model.config.vocab_size)])
        made_1T = self._model.generate(
            ids_1T, attention_mask=torch.ones_like(ids_1T), max_new_tokens=steps, do_sample=False, use_cache=True
        )
        made: list[float] = made_1T[0, PROMPT_TOKENS:].tolist()
        return made


BUILDERS: dict[str, Callable[..., Trainable]] = {OURS: Ours, THEIRS: Transformers}


def print_line(name: str, result: dict[str, Any]) -> None:
    rates = ", ".join(f"{side} {rate:,.1f}" for side, rate in result["tokens_per_second"].items())
    print(f"{name}: {result['parameters']:,} parameters, tokens/s: {rates}; ratio {result['ratio']:.2f} (bar {BAR})")


if __name__ == "__main__":
    main()
