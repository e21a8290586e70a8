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

mosaicml-streaming asks for an older Transformers than ours, so the peers run in an environment of their own, made once
from loader_peers.txt with uv; loader_peers.in says what that file was compiled from.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import fsspec
import numpy as np

from benchmarks.common import hardware
from benchmarks.loader import VOCAB_SIZE, write_set
from benchmarks.loader_sides import BATCH, LENGTH, SHARD_TOKENS, WINDOW
from tests.cluster.tools import cache_root, locked
from tests.integration.servers import s3_server

BAR_RATIO = 1.0
ROOT = Path(__file__).parents[1]
PINS = Path(__file__).with_name("loader_peers.txt")
OURS = "gpt-run"
PEERS = ("mosaicml-streaming", "litdata")
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
    parser.add_argument("--peers-python", type=Path, help="an interpreter that has both peers")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    peers_python = options.peers_python or peers_environment()
    # In memory where that is a file system: the disk of a shared machine varies more than what is compared.
    folder = options.folder or (Path("/dev/shm") if os.access("/dev/shm", os.W_OK) else None)
    with tempfile.TemporaryDirectory(dir=folder) as name:
        result = measure(
            Path(name), peers_python, shards=options.shards, rounds=options.rounds, peer_workers=options.workers
        )
    print(json.dumps(result) if options.json else report(result))


def measure(
    folder: Path, peers_python: Path, *, shards: int, rounds: int, peer_workers: Sequence[int]
) -> dict[str, Any]:
    """Write the sets, put them on a server and let the sides take turns."""
    write_sets(folder / "sets", peers_python, shards)
    batches = shards * SHARD_TOKENS // WINDOW // BATCH
    with s3_server(folder / "server") as server, contextlib.ExitStack() as stack:
        # The last is mosaicml-streaming's own.
        os.environ.update(server.environment | {"S3_ENDPOINT_URL": server.environment["AWS_ENDPOINT_URL"]})
        fsspec.filesystem("s3").put(f"{folder / 'sets'}/", f"{server.url}/sets/", recursive=True)
        shutil.rmtree(folder / "sets")
        pythons = {OURS: Path(sys.executable)} | dict.fromkeys(PEERS, peers_python)
        hosts = {name: stack.enter_context(Side(python, name)) for name, python in pythons.items()}
        sides = [(OURS, 1), *((peer, workers) for peer in PEERS for workers in peer_workers)]
        seconds: dict[str, dict[str, list[float]]] = {mode: {} for mode in MODES}
        for number in range(rounds):
            first = number % len(sides)
            for name, workers in sides[first:] + sides[:first]:
                cache = folder / "cache"
                job = {"remote": f"{server.url}/sets/{name}", "local": str(cache), "workers": workers}
                for mode in MODES:
                    spent = hosts[name].run(job | {"batches": batches})
                    seconds[mode].setdefault(name if name == OURS else f"{name}, {workers} workers", []).append(spent)
                shutil.rmtree(cache)
    tokens = batches * BATCH * LENGTH
    return {
        "bar_ratio": BAR_RATIO,
        "tokens": tokens,
        "shards": shards,
        "rounds": rounds,
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


def write_sets(folder: Path, peers_python: Path, shards: int) -> None:
    """The same tokens as a prepared set and as the peers' sets, each in a folder of its side's name."""
    tokens = np.random.default_rng(1).integers(0, VOCAB_SIZE, shards * SHARD_TOKENS, dtype=np.uint16)
    folder.mkdir()
    write_set(folder / OURS, tokens, shard_tokens=SHARD_TOKENS)
    file = folder.with_name("tokens.npy")
    np.save(file, tokens)
    command = [str(peers_python), "-m", "benchmarks.loader_sides", "write", str(file), str(folder)]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        sys.exit(f"{' '.join(command)} failed:\n{result.stderr[-2000:]}")
    file.unlink()


class Side:
    """A process that reads epochs with one library; what it needs is imported when this returns."""

    def __init__(self, python: Path, name: str) -> None:
        self._process = subprocess.Popen(
            [str(python), "-m", "benchmarks.loader_sides", name],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._answer()

    def run(self, job: dict[str, Any]) -> float:
        """Seconds that one epoch took."""
        assert self._process.stdin is not None, "it is a pipe"
        self._process.stdin.write(json.dumps(job) + "\n")
        self._process.stdin.flush()
        return float(self._answer()["seconds"])

    def _answer(self) -> dict[str, Any]:
        """The next line that is an answer; libraries print lines of their own."""
        assert self._process.stdout is not None, "it is a pipe"
        for line in self._process.stdout:
            if line.startswith("{"):
                answer: dict[str, Any] = json.loads(line)
                return answer
        sys.exit(f"{self._process.args!r} ended with {self._process.wait()}; its complaint stands above")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()


def peers_environment() -> Path:
    """The Python of an environment with the peers of loader_peers.txt; made at the first use."""
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    key = hashlib.sha256(PINS.read_bytes() + version.encode()).hexdigest()[:16]
    folder = cache_root() / "loader-peers" / key
    folder.mkdir(parents=True, exist_ok=True)
    python = folder / "venv" / "bin" / "python"
    with locked(folder / "lock"):
        if not (folder / "complete").exists():
            beside = Path(sys.executable).with_name("uv")  # where `make` puts it
            uv = str(beside) if beside.exists() else "uv"
            make = [uv, "venv", "--quiet", "--clear", "--python", sys.executable, str(folder / "venv")]
            fill = [uv, "pip", "install", "--quiet", "--python", str(python), "--requirement", str(PINS)]
            for command in (make, fill):
                subprocess.run(command, check=True)
            (folder / "complete").touch()
    return python


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
