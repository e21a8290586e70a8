"""Text to ids: MB/s of one core, of the engines that encode and of what preparation calls.

    python -m benchmarks.encoding [--tokenizer SOURCE] [--json]

The text is that of this Python installation (36 MB at most). Each engine lives in a process of its own on one thread
and gets the same pieces of text in turn, each piece once: engines that remember words would shine on text they have
seen. MB/s is per second of processor time, median over pieces. All ids are compared by hash. `--tokenizer` is anything
that `gpt-run tokenizer import` takes and splits words as GPT-2; by default one of 50,257 ids is trained on the text.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from tokenizers import Tokenizer

from benchmarks.common import Side, hardware, interleave, median_ratio
from trainer.data import corpus
from trainer.data.tokenizers.config import BpeTokenizer, existing_tokenizer, load_tokenizer_spec
from trainer.data.tokenizers.encoder import Choice, Encoder, choose_engine
from trainer.data.tokenizers.parity import for_gigatoken
from trainer.data.tokenizers.ranks import BYTE_CHARACTERS
from trainer.data.tokenizers.train import train_tokenizer

PIECE_BYTES = 4_000_000
MB = 1e6
# As tiktoken defines GPT-2's way of splitting words.
GPT2 = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s"

Encode = Callable[[Sequence[str]], Sequence[Any]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokenizer", help="tokenizer.json, its folder, a .tiktoken file or hf://NAME")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        path = Path(name, "tokenizer.json")
        report = measure(provide(options.tokenizer), path)
    if options.json:
        print(json.dumps(report))
        return
    for side, figures in report["engines"].items():
        print(
            f"{side:24} {figures['mb_per_second']:7.1f} MB/s, {figures['first_piece_mb_per_second']:6.1f} on the first "
            f"piece, {figures['ratio_to_tokenizers']:5.1f}x tokenizers, grew by {figures['memory_growth_mb']:.0f} MB"
        )
    print(
        f"same ids: {report['same_ids']}; the trial of gigatoken took {report['trial_cpu_seconds']:.1f} s of processor"
    )


def provide(source: str | None) -> Tokenizer:
    """The tokenizer to encode with."""
    if source is not None:
        return load_tokenizer_spec(existing_tokenizer(source, None, []))
    texts = [text for piece in pieces() for text in piece]
    return train_tokenizer(BpeTokenizer(type="bpe", style="gpt2"), texts)


def measure(tokenizer: Tokenizer, path: Path) -> dict[str, Any]:
    """Interleave the engines over the pieces of text."""
    tokenizer.save(str(path))
    started = time.process_time()
    choice = choose_engine(tokenizer, "auto")
    trial = time.process_time() - started
    # One thread in each process; libraries read these when they start.
    os.environ |= {"TOKENIZERS_PARALLELISM": "false", "RAYON_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    builders: dict[str, Callable[[Path, Choice], Encode]]
    builders = {"tokenizers": bare_tokenizers, "Encoder with tokenizers": encoder_with_tokenizers, "tiktoken": tiktoken}
    if choice.engine == "gigatoken":
        builders |= {"gigatoken": bare_gigatoken, "Encoder with gigatoken": encoder_with_gigatoken}
    sides = {name: Side(Encoding, builder, path, choice, threads=1) for name, builder in builders.items()}
    sizes = [sum(len(text.encode()) for text in piece) for piece in pieces()]
    rounds = interleave(sides, rounds=len(sizes), steps=1)
    for side in sides.values():
        side.close()
    seconds = {name: [timing.losses[0] for timing in timings] for name, timings in rounds.items()}
    digests = {name: [timing.losses[1] for timing in timings] for name, timings in rounds.items()}
    memory = {name: [timing.losses[2] for timing in timings] for name, timings in rounds.items()}
    return {
        "hardware": hardware(),
        "choice": {"engine": choice.engine, "reason": choice.reason, "unlike_characters": len(choice.unlike)},
        "trial_cpu_seconds": trial,
        "text_mb": sum(sizes) / MB,
        "same_ids": len({tuple(each) for each in digests.values()}) == 1,
        "engines": {
            name: {
                "mb_per_second": statistics.median(size / MB / took for size, took in zip(sizes, taken, strict=True)),
                "first_piece_mb_per_second": sizes[0] / MB / taken[0],
                "ratio_to_tokenizers": median_ratio(seconds["tokenizers"], taken),
                "memory_growth_mb": memory[name][-1] - memory[name][0],
            }
            for name, taken in seconds.items()
        },
    }


def pieces() -> list[list[str]]:
    """The text of this Python installation in pieces of about PIECE_BYTES."""
    found: list[list[str]] = [[]]
    size = 0
    for _, path in corpus.library_files():
        text = path.read_text(encoding="utf-8", errors="replace")
        found[-1].append(text)
        size += len(text.encode())
        if size >= PIECE_BYTES * len(found):
            found.append([])
        if size >= 36 * MB:
            break
    return [piece for piece in found if piece]


class Encoding:
    """One engine in its process: each call of `run` encodes the next piece."""

    def __init__(self, builder: Callable[[Path, Choice], Encode], path: Path, choice: Choice) -> None:
        self._encode = builder(path, choice)
        # Whatever is set up at the first call is no part of the speed.
        self._encode(["warm", "up"])
        self._pieces = iter(pieces())

    def run(self, steps: int) -> list[float]:
        """Seconds of processor time, a hash of the ids, and the process's memory in MB."""
        taken, digest = 0.0, hashlib.sha256()
        for _ in range(steps):
            piece = next(self._pieces)
            started = time.process_time()
            rows = self._encode(piece)
            taken += time.process_time() - started
            for row in rows:
                digest.update(np.asarray(row.ids if hasattr(row, "ids") else row, dtype=np.uint32).tobytes())
            # Freeing the result is part of the work: `tokenizers` keeps much more than ids.
            started = time.process_time()
            del rows, row
            taken += time.process_time() - started
        return [taken, float(int(digest.hexdigest()[:12], 16)), psutil.Process().memory_info().rss / MB]


def bare_tokenizers(path: Path, _: Choice) -> Encode:
    tokenizer = Tokenizer.from_file(str(path))
    tokenizer.encode_special_tokens = True
    return lambda texts: tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)


def encoder_with_tokenizers(path: Path, _: Choice) -> Encode:
    return Encoder(Tokenizer.from_file(str(path)), "tokenizers").encode_batch


def encoder_with_gigatoken(path: Path, choice: Choice) -> Encode:
    return Encoder(Tokenizer.from_file(str(path)), choice).encode_batch


def bare_gigatoken(path: Path, _: Choice) -> Encode:
    from gigatoken.gigatoken_rs import load_hf_json

    encode = load_hf_json(for_gigatoken(json.loads(path.read_bytes()))).encode
    return lambda texts: [encode(text) for text in texts]


def tiktoken(path: Path, _: Choice) -> Encode:
    from tiktoken import Encoding as TiktokenEncoding

    byte_of = {character: byte for byte, character in enumerate(BYTE_CHARACTERS)}
    vocabulary = json.loads(path.read_bytes())["model"]["vocab"]
    learned = {token: number for token, number in vocabulary.items() if all(each in byte_of for each in token)}
    ranks = {bytes(byte_of[each] for each in token): number for token, number in learned.items()}
    ranks.pop(b"<|endoftext|>", None)
    encoding = TiktokenEncoding("gpt2", pat_str=GPT2, mergeable_ranks=ranks, special_tokens={})
    return lambda texts: encoding.encode_ordinary_batch(list(texts), num_threads=1)


if __name__ == "__main__":
    main()
