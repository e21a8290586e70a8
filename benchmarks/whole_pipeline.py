"""All of preparation against datatrove: text in JSON lines to tokens on disk, MB/s per second of processor time.

    python -m benchmarks.whole_pipeline [--megabytes 20] [--rounds 3] [--json]

Both sides read the same files and apply the rules of Gopher (quality, repetition) and of C4 with the same thresholds,
MinHash of 14 bands of 8 over 5 words, and the same tokenizer of 50,257 ids, in as many processes as there are cores.
Ours also looks for exact duplicates and ends with hashed shards; theirs ends with its token files, not shuffled, see
whole_pipeline_datatrove.py. datatrove's words and sentences come from spaCy for English; here they are what white space
separates and what our regular expression counts, on both sides, or else most of the time would be spaCy's. From 50 MB
on our side may encode with gigatoken, and both sides have the same engine only below. The ratio is of processor seconds
of all processes from start to end, pair by pair; sides begin in turn. The text is made up from that of this Python
installation; a quarter is no prose, and mostly dropped. Needs the extra `peers`. Linux only.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

import yaml

from benchmarks.common import hardware, median_ratio, processor_seconds
from benchmarks.made_up import documents, write_jsonl
from trainer.data.tokenizers.config import BpeTokenizer
from trainer.data.tokenizers.train import train_tokenizer

BAR_RATIO = 1.0
MB = 1e6
TRAINING_DOCUMENTS = 3000
PARTS = 8


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=float, default=20, help="size of the text (default 20)")
    parser.add_argument("--rounds", type=int, default=3, help="interleaved rounds (default 3)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        report = {
            "hardware": hardware(),
            "bar_ratio": BAR_RATIO,
            **compare(Path(folder), options.megabytes * MB, options.rounds),
        }
    if options.json:
        print(json.dumps(report))
        return
    for side, speed in report["megabytes_per_second"].items():
        print(f"{side}: {speed:.2f} MB/s per core, {report['documents'][side]} documents kept")
    print(f"ratio {report['ratio']:.2f} (bar {BAR_RATIO})")


def compare(folder: Path, num_bytes: float, rounds: int) -> dict[str, Any]:
    """Pairs of runs over the same files; each round begins with the other side."""
    (folder / "text").mkdir()
    written = write_jsonl(folder / "text", num_bytes, file_bytes=num_bytes / PARTS)
    training = documents(seed=2)
    settings = BpeTokenizer(type="bpe", style="gpt2")
    tokenizer = train_tokenizer(settings, [next(training) for _ in range(TRAINING_DOCUMENTS)])
    tokenizer.save(str(folder / "tokenizer.json"))
    sides = {"ours": ours, "datatrove": datatrove}
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    kept = {}
    for number in range(rounds):
        for name in list(sides)[:: 1 if number % 2 else -1]:
            with tempfile.TemporaryDirectory(dir=folder) as output:
                taken, kept[name] = sides[name](folder, Path(output))
            seconds[name].append(taken)
        print(f"round {number + 1}: {', '.join(f'{n} {s[-1]:.1f} s' for n, s in seconds.items())}", file=sys.stderr)
    # Signatures are of other hashes, so that a few documents may differ.
    assert abs(kept["ours"] - kept["datatrove"]) < 0.01 * kept["datatrove"], kept
    return {
        "megabytes": written / MB,
        "megabytes_per_second": {name: written / MB / statistics.median(times) for name, times in seconds.items()},
        "ratio": median_ratio(seconds["datatrove"], seconds["ours"]),
        "documents": kept,
        "seconds": seconds,
    }


def ours(folder: Path, output: Path) -> tuple[float, int]:
    """Processor seconds, and documents that are left."""
    pipeline = {
        "name": "whole",
        "output": str(output / "set"),
        "sources": [{"type": "jsonl", "path": str(folder / "text")}],
        "clean": [{"type": "gopher-quality"}, {"type": "gopher-repetition"}, {"type": "c4"}],
        "duplicates": {"exact": True, "near": {}},
        "tokenizer": {"type": "file", "path": str(folder / "tokenizer.json")},
    }
    (output / "pipeline.yaml").write_text(yaml.safe_dump(pipeline))
    command = [sys.executable, "-m", "trainer", "data", "prepare", str(output / "pipeline.yaml")]
    seconds = processor_seconds(command)
    splits = json.loads((output / "set" / "dataset.json").read_bytes())["splits"]
    return seconds, sum(split["documents"] for split in splits.values())


def datatrove(folder: Path, output: Path) -> tuple[float, int]:
    """The same of the other side."""
    command = [sys.executable, "-m", "benchmarks.whole_pipeline_datatrove", str(folder), str(output)]
    seconds = processor_seconds(command)
    # An index holds where each document ends, in eight bytes.
    return seconds, sum(path.stat().st_size // 8 for path in (output / "tokens").glob("*.index"))


if __name__ == "__main__":
    main()
