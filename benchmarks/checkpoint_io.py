"""Checkpoint write and read against a raw fsspec transfer of the same bytes, with the same streams, server and hashing.

Starts an S3 server on this machine (or takes --store) and times pairs: raw, ours, raw, ours. Raw writing is one
`fs.open(...).write` stream per file with sha256 on the way, raw reading `fs.get_file` and sha256 of what arrived; ours
is all of a save (plan, files, listing, marker) and all of a load (listing, checks, tensors filled). A ratio of 1 means
as fast as raw.

    python -m benchmarks.checkpoint_io --megabytes 400 --pairs 5 --json
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import torch

from tests.integration.servers import s3_server
from trainer.checkpoint.attempts import Attempt, claim_attempt
from trainer.checkpoint.config import KeepConfig
from trainer.checkpoint.load import find_checkpoint, load_checkpoint
from trainer.checkpoint.reader import sha256_of
from trainer.checkpoint.save import Hashes, Saver, Snapshot
from trainer.checkpoint.store import PART_BYTES, Store, open_run, open_store
from trainer.checkpoint.writer import SLICE_BYTES


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", help="URL of a store to use instead of a server of our own")
    parser.add_argument("--megabytes", type=int, default=400, help="size of the file that is sent (default 400)")
    parser.add_argument("--streams", type=int, default=4, help="parts that are under way at once (default 4)")
    parser.add_argument("--pairs", type=int, default=5, help="measured pairs of one side and the other (default 5)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    # In memory where that is a file system: the disk of a shared machine varies more than what is compared.
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(dir=memory) as folder, store_url(options.store, Path(folder)) as url:
        result = measure(url, options.megabytes * 2**20, options.streams, options.pairs, Path(folder))
    if options.json:
        print(json.dumps(result, indent=1))
    else:
        for what in ("write", "read"):
            print(f"{what}: {result[f'{what}_ratio']:.2f} of raw ({result[f'{what}_megabytes_per_second']:.0f} MB/s)")


def measure(url: str, size_bytes: int, streams: int, pairs: int, folder: Path) -> dict[str, Any]:
    """Interleaved pairs after one that is thrown away; medians."""
    run = open_run(url, "benchmark")
    tempfile.tempdir = str(folder)  # where a load keeps what it fetches
    raw_store = open_store(f"{url}/raw")
    attempt = claim_attempt(run, world_size=1, config_sha256="0" * 64, base_checkpoint=None)
    state = make_state(size_bytes)
    save(attempt, state, streams, step=1)
    resolved = find_checkpoint(run)
    assert resolved is not None
    committed = resolved.checkpoint.committed
    payload = {name: resolved.checkpoint.store.read_bytes(name) for name in committed.files}
    seconds: dict[str, list[float]] = {"raw write": [], "write": [], "raw read": [], "read": []}
    for pair in range(pairs + 1):
        timed = {
            "raw write": clocked(partial(raw_write, raw_store, payload, streams, pair)),
            "write": clocked(partial(save, attempt, state, streams, step=pair + 2)),
            "raw read": clocked(partial(raw_read, raw_store, list(payload), streams, pair, folder)),
            "read": clocked(partial(load, run, state, streams)),
        }
        if pair:
            for name, value in timed.items():
                seconds[name].append(value)
    result: dict[str, Any] = {
        "megabytes": round(committed.bytes / 2**20, 1),
        "files": len(payload),
        "streams": streams,
        "pairs": pairs,
        "cores": os.cpu_count(),
        "torch": torch.__version__,
    }
    for what in ("write", "read"):
        ratios = [raw / ours for raw, ours in zip(seconds[f"raw {what}"], seconds[what], strict=True)]
        result[f"{what}_ratio"] = round(statistics.median(ratios), 3)
        result[f"{what}_megabytes_per_second"] = round(committed.bytes / 2**20 / statistics.median(seconds[what]), 1)
        result[f"{what}_seconds"] = [round(value, 2) for value in seconds[what]]
        result[f"raw_{what}_seconds"] = [round(value, 2) for value in seconds[f"raw {what}"]]
    return result


def make_state(size_bytes: int) -> dict[str, Any]:
    """Weights and two moments of a model: one embedding of a fifth, the rest in blocks of equal matrices."""
    floats = size_bytes // 4 // 3
    block = torch.Size((4, max(1, floats // 5 // 16 // 4)))
    names = {"embedding": torch.Size((5, floats // 25))} | {f"block{number}": block for number in range(64)}
    weights = {name: torch.randn(shape) for name, shape in names.items()}
    moments = {name: {"exp_avg": torch.randn(shape), "exp_avg_sq": torch.randn(shape)} for name, shape in names.items()}
    return {"model": weights, "optimizer": moments}


def save(attempt: Attempt, state: dict[str, Any], streams: int, step: int) -> None:
    saver = Saver(attempt, group=None, asynchronous=False, streams=streams, keep=KeepConfig(rolling=2, best=0))
    hashes = Hashes("0" * 64, "1" * 64, "2" * 64, "3" * 64)
    saver.save(Snapshot(step, step, 0.0, 1.0, None, state, {}, b"", "", hashes))
    (result,) = saver.wait()
    assert result.ok, result.error


def load(run: Store, state: dict[str, Any], streams: int) -> None:
    load_checkpoint(find_checkpoint(run), state, model_sha256="1" * 64, streams=streams)


def raw_write(store: Store, payload: dict[str, bytes], streams: int, pair: int) -> None:
    def write(name: str) -> str:
        digest = hashlib.sha256()
        view = memoryview(payload[name])
        with store.filesystem.open(f"{store.root}/{pair}/{name}", "wb", block_size=PART_BYTES) as stream:
            for start in range(0, len(view), SLICE_BYTES):
                digest.update(view[start : start + SLICE_BYTES])
                stream.write(view[start : start + SLICE_BYTES])
        return digest.hexdigest()

    store.local_path(str(pair)).mkdir(parents=True) if store.is_local else None
    with ThreadPoolExecutor(streams) as pool:
        list(pool.map(write, payload))


def raw_read(store: Store, names: list[str], streams: int, pair: int, folder: Path) -> None:
    target = folder / f"raw-{pair}"
    target.mkdir()

    def read(name: str) -> str:
        store.filesystem.get_file(f"{store.root}/{pair}/{name}", str(target / name))
        digest = sha256_of(target / name)
        (target / name).unlink()
        return digest

    with ThreadPoolExecutor(streams) as pool:
        list(pool.map(read, names))


def clocked(function: Callable[[], None]) -> float:
    begin = time.perf_counter()
    function()
    return time.perf_counter() - begin


@contextlib.contextmanager
def store_url(given: str | None, folder: Path) -> Iterator[str]:
    """The given store, or an S3 server on this machine with its clients' environment."""
    if given is not None:
        yield given
        return
    with s3_server(folder / "s3") as server:
        os.environ.update(server.environment)
        yield server.url


if __name__ == "__main__":
    main()
