"""Tokens per second of the loader from an S3 server, against mosaicml-streaming and litdata with the same tokens.

    python -m benchmarks.loader_remote [--rounds N] [--shards N] [--folder PATH] [--peers-python PATH] [--json]

One server on this machine holds the same random tokens in each one's own format. A side reads one epoch, shuffled, in
batches of 32 sequences of 2,048 tokens as one rank, with an empty cache folder (cold: the data set is opened, its
shards come from the server) and then, in another process, with what that left (warm: a run that starts again on its
node). All sides take turns; the bar is the median over rounds of our rate over that of the fastest peer of the same
round, at least 1.0 for both. `benchmarks.loader_sides` has the settings: those that each one's documentation
recommends, shards of its recommended size (ours as large as litdata's), and for the peers as many DataLoader workers as
there are cores (`--workers 0` tries none: slower for both). Ours has its default, one thread, and checks the hash of
every shard it uses; the peers, at their defaults, check none.

mosaicml-streaming asks for an older Transformers than ours, so it and litdata run in an environment of their own, made
once from peers/loader.txt.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pyarrow as pa
from pyarrow import parquet

from benchmarks.common import hardware
from benchmarks.environments import peer_python
from benchmarks.hosts import ROOT, Host, HostFailed
from benchmarks.loader import VOCAB_SIZE, write_set
from benchmarks.loader_sides import BATCH, LENGTH, SHARD_TOKENS, WINDOW
from tests.integration.servers import s3_server
from trainer.data.shards import Tokens

BAR_RATIO = 1.0
OURS = "gpt-run"
PEERS = ("mosaicml-streaming", "litdata")
# Measured by the comparison alone; has no requirement that clashes with ours.
DATASETS = "datasets"
PARQUET_ROWS = 1000
MODES = ("cold", "warm")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, help="turns of all sides (default 3)")
    parser.add_argument("--shards", type=int, default=4, help="shards of 16.4M tokens (default 4)")
    parser.add_argument(
        "--workers",
        type=int,
        nargs="+",
        default=[os.cpu_count() or 1],
        help="DataLoader workers of the peers; several numbers are several sides (default: one per core)",
    )
    parser.add_argument("--folder", type=Path, help="where sets and caches lie for a while (default: in memory)")
    parser.add_argument("--peers-python", type=Path, help="an interpreter that has streaming and litdata")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    peers_python = options.peers_python or peer_python("loader")
    with tempfile.TemporaryDirectory(dir=options.folder or memory_folder()) as name:
        result = measure(
            Path(name), peers_python, shards=options.shards, rounds=options.rounds, peer_workers=options.workers
        )
    print(json.dumps(result) if options.json else report(result))
    if result["absent"]:
        sys.exit(f"no figure: {result['absent']}")


def memory_folder() -> Path | None:
    """A file system in memory, where there is one: the disk of a shared machine varies more than what is compared."""
    return Path("/dev/shm") if os.access("/dev/shm", os.W_OK) else None


def measure(
    folder: Path,
    peers_python: Path,
    *,
    shards: int,
    rounds: int,
    peer_workers: Sequence[int],
    peers: Sequence[str] = PEERS,
) -> dict[str, Any]:
    """Write the sets, put them on a server and let the sides take turns; `absent` has what failing peers said.

    Raises HostFailed if our side fails, or all peers.
    """
    write_sets(folder / "sets", peers_python, shards, peers)
    batches = shards * SHARD_TOKENS // WINDOW // BATCH
    with s3_server(folder / "server") as server, contextlib.ExitStack() as stack:
        # The last is mosaicml-streaming's own.
        os.environ.update(server.environment | {"S3_ENDPOINT_URL": server.environment["AWS_ENDPOINT_URL"]})
        fsspec.filesystem("s3").put(f"{folder / 'sets'}/", f"{server.url}/sets/", recursive=True)
        shutil.rmtree(folder / "sets")
        hosts = {
            name: stack.enter_context(
                Host("benchmarks.loader_sides", name, python=peers_python if name in PEERS else None)
            )
            for name in (OURS, *peers)
        }
        sides = [(OURS, 1), *((peer, workers) for peer in peers for workers in peer_workers)]
        seconds: dict[str, dict[str, list[float]]] = {mode: {} for mode in MODES}
        absent: dict[str, str] = {}
        for number in range(rounds):
            first = number % len(sides)
            for name, workers in sides[first:] + sides[:first]:
                if name in absent:
                    continue
                cache = folder / "cache"
                job = {"remote": f"{server.url}/sets/{name}", "local": str(cache), "workers": workers}
                try:
                    for mode in MODES:
                        [answer] = hosts[name].ask(job | {"batches": batches})
                        key = name if name == OURS else f"{name}, {workers} workers"
                        seconds[mode].setdefault(key, []).append(float(answer["seconds"]))
                except HostFailed as error:
                    if name == OURS:
                        raise
                    absent[name] = str(error)
                shutil.rmtree(cache, ignore_errors=True)
    if len(absent) == len(peers):
        raise HostFailed("\n".join(f"{peer}: {words}" for peer, words in absent.items()))
    tokens = batches * BATCH * LENGTH
    seconds = {
        mode: {key: spent for key, spent in found.items() if key.split(",")[0] not in absent}
        for mode, found in seconds.items()
    }
    return {
        "bar_ratio": BAR_RATIO,
        "tokens": tokens,
        "shards": shards,
        "rounds": rounds,
        "absent": absent,
        **{mode: summary(seconds[mode], tokens) for mode in MODES},
        "hardware": hardware(),
    }


def summary(seconds: Mapping[str, Sequence[float]], tokens: int) -> dict[str, Any]:
    """Rates of one mode, and our rate over the fastest peer's: per round, then the median."""
    ours = next(iter(seconds))
    theirs = [spent for name, spent in seconds.items() if name != ours]
    ratios = [min(round_of_peers) / mine for mine, *round_of_peers in zip(seconds[ours], *theirs, strict=True)]
    return {
        "ratio_to_fastest": statistics.median(ratios),
        "tokens_per_second": {name: tokens / statistics.median(spent) for name, spent in seconds.items()},
        "seconds": {name: list(spent) for name, spent in seconds.items()},
    }


def write_sets(folder: Path, peers_python: Path, shards: int, peers: Sequence[str]) -> None:
    """The same tokens as a prepared set and as the peers' sets, each in a folder of its side's name."""
    tokens = np.random.default_rng(1).integers(0, VOCAB_SIZE, shards * SHARD_TOKENS, dtype=np.uint16)
    folder.mkdir()
    write_set(folder / OURS, tokens, shard_tokens=SHARD_TOKENS)
    if DATASETS in peers:
        write_parquet(folder / DATASETS, tokens)
    file = folder.with_name("tokens.npy")
    np.save(file, tokens)
    command = [str(peers_python), "-m", "benchmarks.loader_sides", "write", str(file), str(folder)]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        sys.exit(f"{' '.join(command)} failed:\n{result.stderr[-2000:]}")
    file.unlink()


def write_parquet(folder: Path, tokens: Tokens) -> None:
    """The tokens for Hugging Face datasets: a window a row, a file per shard."""
    folder.mkdir()
    for number, shard in enumerate(np.split(tokens, len(tokens) // SHARD_TOKENS)):
        windows = pa.FixedSizeListArray.from_arrays(pa.array(shard), WINDOW)
        table = pa.table({"tokens": windows})
        # Random tokens compress to nothing smaller, and a dictionary of them costs time.
        parquet.write_table(
            table,
            folder / f"train-{number:05d}.parquet",
            row_group_size=PARQUET_ROWS,
            compression="none",
            use_dictionary=False,
        )


def report(result: dict[str, Any]) -> str:
    """The figures for people."""
    lines = [f"{result['tokens']:,} tokens in {result['shards']} shards, {result['rounds']} rounds; million tokens/s:"]
    for mode in MODES:
        rates = result[mode]["tokens_per_second"]
        lines += [f"  {mode} {name}: {rate / 1e6:.1f}" for name, rate in rates.items()]
        lines.append(f"  {mode}: {result[mode]['ratio_to_fastest']:.2f} of the fastest peer (bar {BAR_RATIO:g})")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
