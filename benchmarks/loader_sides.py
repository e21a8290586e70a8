"""The sides of `loader_remote`: each loader reads one epoch, in a process of its own.

    PYTHON -m benchmarks.loader_sides SIDE      a `benchmarks.hosts` process: answers jobs with the seconds they took
    PYTHON -m benchmarks.loader_sides write TOKENS.npy FOLDER

The second form, with the peers' Python, writes the tokens as the peers' own sets, FOLDER/mosaicml-streaming and
FOLDER/litdata. Every job runs in a fork of a process that has imported its library and done nothing else: what is timed
begins with an open data set, not with imports, and ends with an epoch's last batch. Batches are int64, as a model takes
them. Only numpy and torch are imported here, so that the peers' environment needs nothing of ours.
"""

from __future__ import annotations

import multiprocessing
import sys
import time
from collections.abc import Callable, Iterable
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.hosts import serve

LENGTH = 2048
BATCH = 32
WINDOW = LENGTH + 1
# What litdata's documentation recommends for this length.
SHARD_TOKENS = 8012 * WINDOW

# remote URL, local folder, workers -> batches of an epoch
Epoch = Callable[[str, str, int], Iterable[Any]]


def main() -> None:
    if sys.argv[1] == "write":
        write_peers(Path(sys.argv[2]), Path(sys.argv[3]))
        return
    serve(lambda: reader(SIDES[sys.argv[1]]()))


def reader(epoch: Epoch) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """What reads an epoch for a job, in a fork of this process."""
    context = multiprocessing.get_context("fork")

    def read(job: dict[str, Any]) -> dict[str, Any]:
        mine, theirs = context.Pipe()
        process = context.Process(target=timed, args=(epoch, job, theirs))
        process.start()
        theirs.close()
        try:
            answer: dict[str, Any] = mine.recv()
        except EOFError:
            sys.exit(1)  # It said why.
        process.join()
        return answer

    return read


def timed(epoch: Epoch, job: dict[str, Any], answer: Connection) -> None:
    """Take the job's number of batches and send what it took."""
    started = time.perf_counter()
    batches = 0
    for batch in epoch(job["remote"], job["local"], job["workers"]):
        assert batch.shape == (BATCH, WINDOW), batch.shape
        assert str(batch.dtype).endswith("int64"), batch.dtype
        batches += 1
        if batches == job["batches"]:
            break
    assert batches == job["batches"], f"{batches} batches of {job['batches']}"
    answer.send({"seconds": time.perf_counter() - started})


def gpt_run() -> Epoch:
    """Ours: the defaults of a run's `data` settings."""
    import s3fs  # noqa: F401  # else the first use of the store imports it

    from trainer.data.config import CacheConfig, Source
    from trainer.data.dataset import open_tokens
    from trainer.data.loader import BatchLoader

    def epoch(remote: str, local: str, workers: int) -> Iterable[Any]:
        cache = CacheConfig(path=local)
        split = open_tokens(Source(path=remote), split="train", sequence_length=LENGTH, cache=cache)
        options: dict[str, Any] = {"batch_sequences": BATCH, "sequence_length": LENGTH, "seed": 1, "workers": workers}
        with BatchLoader([split], **options) as loader:
            for batch in loader:
                yield batch.tokens

    return epoch


def mosaicml_streaming() -> Epoch:
    """Shuffled over the whole epoch, batch size given (it sets how far it downloads ahead); no hashes are checked."""
    from streaming import StreamingDataset

    def collate(samples: list[dict[str, Any]]) -> torch.Tensor:
        return torch.from_numpy(np.stack([sample["tokens"] for sample in samples]).astype(np.int64))

    def epoch(remote: str, local: str, workers: int) -> Iterable[Any]:
        data = StreamingDataset(remote=remote, local=local, shuffle=True, batch_size=BATCH)
        yield from torch.utils.data.DataLoader(data, batch_size=BATCH, num_workers=workers, collate_fn=collate)

    return epoch


def litdata() -> Epoch:
    """Tokens without headers, as its guide to pretraining has it; chunks and samples within each are shuffled."""
    from litdata import StreamingDataLoader, StreamingDataset, TokensLoader
    from litdata.streaming import downloader

    # Its fast client refuses a server without TLS, and no public setting says otherwise.
    downloader._OBSTORE_CLIENT_OPTIONS["allow_http"] = True

    def collate(samples: list[Any]) -> torch.Tensor:
        return torch.stack(samples).to(torch.int64)

    def epoch(remote: str, local: str, workers: int) -> Iterable[Any]:
        data = StreamingDataset(
            remote,
            cache_dir=local,
            item_loader=TokensLoader(block_size=WINDOW),
            shuffle=True,
            drop_last=True,
            max_cache_size="100GB",
        )
        yield from StreamingDataLoader(data, batch_size=BATCH, num_workers=workers, collate_fn=collate)

    return epoch


def datasets() -> Epoch:
    """Hugging Face's, map-style: Parquet fetched into its cache as Arrow files, which are then mapped."""
    from datasets import disable_progress_bars, load_dataset  # type: ignore[import-untyped]  # it has no stubs

    disable_progress_bars()

    def collate(samples: list[dict[str, Any]]) -> torch.Tensor:
        return torch.from_numpy(np.stack([sample["tokens"] for sample in samples]).astype(np.int64))

    def epoch(remote: str, local: str, workers: int) -> Iterable[Any]:
        data = load_dataset("parquet", data_files=f"{remote}/*.parquet", split="train", cache_dir=local)
        yield from torch.utils.data.DataLoader(
            data.with_format("numpy"), batch_size=BATCH, shuffle=True, num_workers=workers, collate_fn=collate
        )

    return epoch


SIDES: dict[str, Callable[[], Epoch]] = {
    "gpt-run": gpt_run,
    "mosaicml-streaming": mosaicml_streaming,
    "litdata": litdata,
    "datasets": datasets,
}


def write_peers(file: Path, folder: Path) -> None:
    """Windows of LENGTH + 1 tokens, one after another, uint16; each library's recommended size of shards."""
    from litdata import TokensLoader, optimize
    from streaming import MDSWriter

    tokens = np.load(file, mmap_mode="r")
    with MDSWriter(out=str(folder / "mosaicml-streaming"), columns={"tokens": f"ndarray:uint16:{WINDOW}"}) as writer:
        for window in tokens.reshape(-1, WINDOW):
            writer.write({"tokens": window})
    optimize(
        fn=partial(shard_of, file),
        inputs=list(range(0, len(tokens), SHARD_TOKENS)),
        output_dir=str(folder / "litdata"),
        chunk_size=SHARD_TOKENS,
        item_loader=TokensLoader(block_size=WINDOW),
        num_workers=1,
    )


def shard_of(file: Path, start: int) -> torch.Tensor:
    """What one chunk of litdata holds."""
    return torch.from_numpy(np.array(np.load(file, mmap_mode="r")[start : start + SHARD_TOKENS]))


if __name__ == "__main__":
    main()
