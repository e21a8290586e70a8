"""Peak memory of `gpt-run data prepare`, near duplicates included, on two sizes of text.

    python -m benchmarks.prepare_memory [--small-mb 60] [--large-mb 600] [--workers 2] [--json]

The peak is the largest sum, over all processes of the command, of proportional set sizes (shared pages count once), as
read several times a second. The text is made up from that of this Python installation, seeded; nearly all of it stays:
the pipeline has rules of quality, exact and near duplicates, a tokenizer of 8,192 ids and shards of 10 million tokens.
Both runs cut the text into parts of one size and train the tokenizer on a sample of one size. Below 50 MB preparation
does not use gigatoken, which takes memory of its own; so both should be above. The bar is meant for
`--small-mb 200 --large-mb 2000`. Linux only.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil

from benchmarks.common import hardware
from benchmarks.made_up import EXACT_EVERY, NEAR_EVERY, write_jsonl

BAR_RATIO = 1.2
MB = 1e6
SAMPLE_SECONDS = 0.1
# Parts of the smaller text: both runs work with all their processes, also on what is left at the end of a stage.
SMALL_PARTS = 5
PIPELINE = """
name: memory
output: {folder}/out
sources:
  - type: jsonl
    path: {folder}/text
    part_bytes: {part_bytes}
clean:
  - type: gopher-quality
    min_stop_words: null
    min_alphabetic_word_share: null
duplicates:
  near: {{}}
tokenizer:
  type: bpe
  vocab_size: 8192
  sample_bytes: {sample_bytes}
shard_tokens: 10000000
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small-mb", type=float, default=60, help="the smaller input, in MB (default 60)")
    parser.add_argument("--large-mb", type=float, default=600, help="the larger input, in MB (default 600)")
    parser.add_argument("--workers", type=int, default=2, help="processes that prepare (default 2)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    small, large = (measure(size, options.small_mb, options.workers) for size in (options.small_mb, options.large_mb))
    report = {
        "hardware": hardware(),
        "bar_ratio": BAR_RATIO,
        "workers": options.workers,
        "runs": [small, large],
        "memory_ratio": large["peak_megabytes"] / small["peak_megabytes"],
    }
    if options.json:
        print(json.dumps(report))
        return
    for run in report["runs"]:
        print(
            f"{run['megabytes']:.0f} MB of text: at most {run['peak_megabytes']:.0f} MB of memory, while "
            f"{run['peak_stage']}; {run['seconds']:.0f} s, {run['dropped']} documents dropped"
        )
    print(f"ratio {report['memory_ratio']:.2f} (bar {BAR_RATIO})")


def measure(megabytes: float, small_megabytes: float, workers: int) -> dict[str, Any]:
    """Prepare so much text in processes of their own, and watch them."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "text").mkdir()
        num_bytes = write_jsonl(folder / "text", megabytes * MB)
        settings = PIPELINE.format(
            folder=folder,
            part_bytes=round(small_megabytes * MB / SMALL_PARTS),
            sample_bytes=round(small_megabytes * MB / 2),
        )
        (folder / "pipeline.yaml").write_text(settings)
        started = time.perf_counter()
        processes, stage = watch(folder, workers)
        info = json.loads((folder / "out" / "dataset.json").read_bytes())
        dropped = {each["name"]: each["dropped"] for each in info["filters"] if each["dropped"]}
        documents = info["filters"][0]["seen"]
    # Without what was planted the measurement would be of something else; rules of quality drop some of it.
    assert dropped["exact-duplicate"] > 0.6 * documents / EXACT_EVERY, dropped
    assert dropped["near-duplicate"] > 0.6 * documents * (1 / NEAR_EVERY - 1 / EXACT_EVERY), dropped
    result = {
        "megabytes": num_bytes / MB,
        "peak_megabytes": sum(processes) / MB,
        "processes_megabytes": [size / MB for size in processes],
        "peak_stage": stage,
        "seconds": time.perf_counter() - started,
        "documents": documents,
        "dropped": dropped,
    }
    print(json.dumps(result), file=sys.stderr)
    return result


def watch(folder: Path, workers: int) -> tuple[list[int], str]:
    """Run the command; the bytes of its processes when they took most together, and the stage that was then."""
    command = [sys.executable, "-m", "trainer", "data", "prepare", str(folder / "pipeline.yaml")]
    main = psutil.Popen([*command, "--workers", str(workers)], stdout=subprocess.DEVNULL)
    most: list[int] = []
    stage = ""
    while main.poll() is None:
        sizes = tree_bytes(main)
        if sum(sizes) > sum(most):
            most, stage = sizes, stage_of(folder / "out")
        time.sleep(SAMPLE_SECONDS)
    if main.returncode:
        sys.exit(f"preparation ended with {main.returncode}")
    return most, stage


def tree_bytes(main: psutil.Process) -> list[int]:
    """Proportional set sizes of a process and of all below it."""
    try:
        return [process.memory_full_info().pss for process in (main, *main.children(recursive=True))]
    except psutil.NoSuchProcess:
        # Something ended in between; the next sample has the others.
        return []


def stage_of(output: Path) -> str:
    """What preparation is doing, by the files that are there."""
    reached = {
        "encoding": output / ".prepare.tokens",
        "training the tokenizer": output / ".prepare.cleaned" / "near" / "duplicates.npy",
        "finding near duplicates": output / ".prepare.cleaned" / "near" / "links",
        "finding exact duplicates": output / ".prepare.cleaned" / "exact" / "links",
    }
    return next((stage for stage, path in reached.items() if path.exists()), "cleaning")


if __name__ == "__main__":
    main()
