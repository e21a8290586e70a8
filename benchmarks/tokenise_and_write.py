"""The last stage of preparation, from cleaned text on disk to finished shards, against bare calls of the same engine.

    python -m benchmarks.tokenise_and_write [--megabytes 16] [--fast-megabytes 200] [--rounds 3] [--json]

Both sides run in the same worker processes, one per core, in rounds that begin with the other side each time. The bare
side has the same batches of text in memory and calls `tokenizers` (encode_batch_fast) or gigatoken on them; reading
the text and what becomes of the ids are not timed. Our side is all of the stage: reading, encoding, the parts' files,
shards with their hashes, on disk for good. MB/s are of text per second of processor time of all processes. A first
round warms up and is not counted. The text is made up from that of this Python installation; the tokenizer has 50,257
ids, trained on it. The one-time trial of gigatoken is left out and reported by itself. Linux only.
"""

from __future__ import annotations

import argparse
import json
import pickle
import statistics
import sys
import tempfile
import time
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import psutil
from tokenizers import Tokenizer

from benchmarks.common import hardware, median_ratio
from benchmarks.encoding import Encode, bare_gigatoken, bare_tokenizers
from benchmarks.made_up import documents, write_jsonl
from trainer.data.output import Mark
from trainer.data.prepare.cleaned import CleanTask, Counts, clean_part, read_texts
from trainer.data.prepare.encode import encode
from trainer.data.prepare.engine import Processes
from trainer.data.prepare.pipeline import Duplicates
from trainer.data.prepare.text import Text
from trainer.data.shards import TOKENIZER_FILE
from trainer.data.sources.jsonl import JsonLines
from trainer.data.tokenizers.config import BpeTokenizer
from trainer.data.tokenizers.encoder import Choice, Encoder, choose_engine
from trainer.data.tokenizers.train import train_tokenizer

BAR_RATIO = 0.9
MB = 1e6
TRAINING_DOCUMENTS = 3000
PARTS = 8
SHARD_TOKENS = 10_000_000
VALIDATION_FRACTION = 0.005
BARE = {"tokenizers": bare_tokenizers, "gigatoken": bare_gigatoken}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=float, default=16, help="text for `tokenizers`")
    parser.add_argument("--fast-megabytes", type=float, default=200, help="text for gigatoken; 0 leaves it out")
    parser.add_argument("--rounds", type=int, default=3, help="interleaved rounds (default 3)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    sizes = {"tokenizers": options.megabytes, "gigatoken": options.fast_megabytes}
    report = {"hardware": hardware(), "bar_ratio": BAR_RATIO, **measure(sizes, options.rounds)}
    if options.json:
        print(json.dumps(report))
        return
    for engine, result in report["engines"].items():
        print(
            f"{engine}: {result['megabytes_per_second']:.2f} MB/s per core, bare "
            f"{result['bare_megabytes_per_second']:.2f}, ratio {result['ratio']:.3f} (bar {BAR_RATIO}); of it in the "
            f"process that writes shards {result['writer_share']:.1%}"
        )
    print(f"trial of gigatoken: {report['trial_cpu_seconds']:.1f} s of processor; {report['choice']}")


def measure(megabytes: dict[str, float], rounds: int) -> dict[str, Any]:
    """Both engines, the fast one where it is proven."""
    texts = documents(seed=2)
    tokenizer = train_tokenizer(
        BpeTokenizer(type="bpe", style="gpt2"), [next(texts) for _ in range(TRAINING_DOCUMENTS)]
    )
    started = time.process_time()
    choice = choose_engine(tokenizer, "auto")
    trial = time.process_time() - started
    choices = {"tokenizers": Choice("tokenizers", "asked for"), choice.engine: choice}
    with tempfile.TemporaryDirectory() as name:
        return {
            "trial_cpu_seconds": trial,
            "choice": choice.reason,
            "engines": {
                engine: compare(Path(name), tokenizer, choices[engine], megabytes[engine], rounds)
                for engine in choices
                if megabytes[engine]
            },
        }


def compare(folder: Path, tokenizer: Tokenizer, choice: Choice, megabytes: float, rounds: int) -> dict[str, Any]:
    """One engine: rounds of both sides over the same cleaned text."""
    engine = Processes()
    with tempfile.TemporaryDirectory(dir=folder) as name:
        folder = Path(name)
        text = cleaned(folder, megabytes * MB, engine)
        tokenizer.save(str(folder / TOKENIZER_FILE))
        seconds: dict[str, list[float]] = {"ours": [], "bare": []}
        shares = []
        for number in range(rounds + 1):
            for side in ("ours", "bare") if number % 2 else ("bare", "ours"):
                if side == "ours":
                    whole, writer = ours(folder / f"round-{number}", text, tokenizer, choice, engine)
                    seconds["ours"].append(whole)
                    shares.append(writer / whole)
                else:
                    seconds["bare"].append(bare(text, folder / TOKENIZER_FILE, choice, engine))
            print(f"{choice.engine}: {', '.join(f'{n} {s[-1]:.2f} s' for n, s in seconds.items())}", file=sys.stderr)
    engine.close()
    counted = {side: times[1:] for side, times in seconds.items()}
    return {
        "text_megabytes": text.num_bytes / MB,
        "processes": engine.workers,
        "megabytes_per_second": text.num_bytes / MB / statistics.median(counted["ours"]),
        "bare_megabytes_per_second": text.num_bytes / MB / statistics.median(counted["bare"]),
        "ratio": median_ratio(counted["bare"], counted["ours"]),
        "writer_share": statistics.median(shares[1:]),
        "seconds": counted,
    }


def cleaned(folder: Path, num_bytes: float, engine: Processes) -> Text:
    """Cleaned text as preparation leaves it, of documents that no step looks at."""
    (folder / "text").mkdir()
    written = write_jsonl(folder / "text", num_bytes)
    source = JsonLines(type="jsonl", path=str(folder / "text"), part_bytes=int(written / PARTS))
    keep_all = Duplicates(exact=False)
    tasks = [
        CleanTask(folder / "cleaned", number, source, part, (), keep_all, 0)
        for number, part in enumerate(source.parts())
    ]
    total = Counts()
    for counts in engine.map(clean_part, tasks):
        total.add(counts)
    nothing = np.empty(0, dtype=np.uint64)
    return Text(folder / "cleaned", len(tasks), total.kept, total.text_bytes, nothing, nothing)


def ours(folder: Path, text: Text, tokenizer: Tokenizer, choice: Choice, engine: Processes) -> tuple[float, float]:
    """Processor seconds of the stage in all processes, and in this one alone."""
    folder.mkdir()
    tokenizer.save(str(folder / TOKENIZER_FILE))
    encoder = Encoder(tokenizer, choice)
    started, started_here = tree_seconds(), time.process_time()
    splits = encode(
        text,
        folder,
        Mark(inputs_sha256=""),
        encoder,
        engine,
        lambda _: None,
        limit=VALIDATION_FRACTION * (1 << 64),
        shard_tokens=SHARD_TOKENS,
    )
    here = time.process_time() - started_here
    whole = tree_seconds() - started
    assert sum(split.documents for split in splits.values()) == text.documents
    return whole, here


def tree_seconds() -> float:
    """Processor seconds of this process and all below it; these live until the engine is closed."""
    this = psutil.Process()
    times = [process.cpu_times() for process in (this, *this.children(recursive=True))]
    return sum(each.user + each.system for each in times)


class BareTask(NamedTuple):
    """One part for the bare side."""

    path: Path
    documents: int
    tokenizer: Path
    choice: bytes
    """Pickled, so that a worker knows it again."""


def bare(text: Text, tokenizer: Path, choice: Choice, engine: Processes) -> float:
    """Processor seconds of the calls alone."""
    tasks = []
    for number in range(text.parts):
        path, _, used = text.part(number)
        tasks.append(BareTask(path, len(used), tokenizer, pickle.dumps(choice)))
    return sum(engine.map(bare_part, tasks))


def bare_part(task: BareTask) -> float:
    """Processor seconds of one part, in a worker."""
    encode_batch = bare_encode(task.tokenizer, task.choice)
    taken = 0.0
    for texts in read_texts(task.path, np.ones(task.documents, dtype=np.bool_)):
        started = time.process_time()
        rows = encode_batch(texts)
        # Freeing the result is part of the work: `tokenizers` keeps much more than ids.
        del rows
        taken += time.process_time() - started
    return taken


@lru_cache(maxsize=1)
def bare_encode(tokenizer: Path, pickled: bytes) -> Encode:
    choice: Choice = pickle.loads(pickled)
    return BARE[choice.engine](tokenizer, choice)


if __name__ == "__main__":
    main()
