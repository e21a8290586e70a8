"""Training data from an S3 server: shared by a node, bounded, ahead of its use, checked, exact after a resume."""

from __future__ import annotations

import itertools
import logging
import multiprocessing
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import fsspec
import numpy as np
import pytest

from tests.integration.proxy import Proxy
from tests.integration.servers import Server, s3_environment
from trainer.data.config import CacheConfig, Source
from trainer.data.dataset import open_tokens
from trainer.data.loader import BatchLoader
from trainer.data.order import SampleOrder
from trainer.data.shards import (
    DatasetInfo,
    ShardWriter,
    SplitInfo,
    TokenizerRecord,
    write_dataset_json,
)
from trainer.data.split import TokenSplit
from trainer.errors import UserError

T = 9
BATCH = 6
SHARDS = 6
SHARD_TOKENS = 300
# Of a token's number: which source it is from.
SOURCE = 10_000
WAIT_SECONDS = 60
_numbers = itertools.count()


@pytest.fixture
def proxy(start_server: Callable[[str], Server], monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    """Before the S3 server, which the environment finds only through it."""
    running = Proxy(start_server("s3").port)
    for name, value in s3_environment(running.port).items():
        monkeypatch.setenv(name, value)
    fsspec.get_filesystem_class("s3").clear_instance_cache()  # clients of other tests' servers
    yield running
    running.close()


@pytest.fixture
def upload(proxy: Proxy, start_server: Callable[[str], Server], tmp_path: Path) -> Callable[..., str]:
    """Put a prepared set on the server, whose token k is k + 10,000 times the set's number; returns its URL."""

    def put(number: int = 0, *, shard_tokens: int = SHARD_TOKENS) -> str:
        folder = tmp_path / f"set-{number}"
        write_counting_set(folder, number, shard_tokens)
        url = f"{start_server('s3').url}/loader/{next(_numbers)}"
        fsspec.filesystem("s3").put(f"{folder}/", f"{url}/", recursive=True)
        return url

    return put


def write_counting_set(folder: Path, number: int, shard_tokens: int) -> None:
    with ShardWriter(folder, "train", dtype="uint16", shard_tokens=shard_tokens) as writer:
        for start in range(0, SHARDS * shard_tokens, shard_tokens // 2):
            writer.add((np.arange(start, start + shard_tokens // 2) % SOURCE) + number * SOURCE, 1)
        split = SplitInfo.of(writer.close())
    tokenizer = TokenizerRecord(name="none", fingerprint="f", vocab_size=65536, eos_id=0)
    info = DatasetInfo(
        name=f"counting-{number}", tokenizer=tokenizer, dtype="uint16", splits={"train": split}, created_at="2026"
    )
    write_dataset_json(folder, info)


def open_set(url: str, cache: Path, max_bytes: int = 10**9) -> TokenSplit:
    config = CacheConfig(path=str(cache), max_bytes=max_bytes)
    return open_tokens(Source(path=url), split="train", sequence_length=T, cache=config)


def loader_of(splits: list[TokenSplit], **options) -> BatchLoader:
    return BatchLoader(splits, **{"batch_sequences": BATCH, "sequence_length": T, "seed": 3, **options})


def read_epoch(url: str, cache: str, rank: int, world: int) -> None:
    split = open_set(url, Path(cache))
    with loader_of([split], rank=rank, world_size=world) as loader:
        for _ in range(split.num_samples // BATCH):
            assert len(next(loader).tokens) == BATCH // world


def test_the_ranks_of_a_node_download_each_shard_once(proxy: Proxy, upload: Callable[..., str], tmp_path: Path) -> None:
    url = upload()
    context = multiprocessing.get_context("spawn")
    workers = [
        context.Process(target=read_epoch, args=(url, str(tmp_path / "cache"), rank, 3), daemon=True)
        for rank in range(3)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0, 0, 0]
    downloads = Counter(path for path in proxy.reads if path.endswith(".arrow"))
    folder = f"/{urlsplit(url).netloc}{urlsplit(url).path}/train"
    assert downloads == {f"{folder}/shard-{number:05d}.arrow": 1 for number in range(SHARDS)}


def test_what_is_next_is_on_its_way_before_it_is_needed(
    proxy: Proxy, upload: Callable[..., str], tmp_path: Path
) -> None:
    split = open_set(upload(), tmp_path / "cache")
    # Groups of one shard each.
    options = {"group_bytes": 1, "fingerprint": split.fingerprint, "seed": 3}
    first, second = SampleOrder(split.shard_samples, split.shard_bytes, **options).shards_ahead(0)
    # A shard's last sample ends in the following one, which this test must not wait for.
    proxy.hold(f"/train/shard-{second:05d}.arrow")
    with loader_of([split], batch_sequences=1, shuffle_group_bytes=1, prefetch_batches=1) as loader:
        next(loader)
        wait_until(lambda: proxy.held > 0)
        proxy.release()
        samples = [int(loader.batch_ids(step)[0, 1]) for step in range(int(split.shard_samples[first]))]
        assert np.searchsorted(np.cumsum(split.shard_samples), samples, side="right").tolist() == [first] * len(samples)
        for _ in samples:
            next(loader)
    split.close()


def wait_until(done: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while not done():
        assert time.monotonic() < deadline, "nothing came in a minute"
        time.sleep(0.01)


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="what is mapped is read from /proc")
@pytest.mark.parametrize("weights", [(1.0,), (1.0, 1.0), (20.0, 1.0)])
def test_the_bound_holds_while_more_than_it_streams_through(
    proxy: Proxy, upload: Callable[..., str], tmp_path: Path, weights: tuple[float, ...]
) -> None:
    urls = [upload(number, shard_tokens=20_000) for number in range(len(weights))]
    cache = tmp_path / "cache"
    sizes = [path.stat().st_size for path in tmp_path.glob("set-*/train/*")]
    # Two groups of one shard per source, as the settings demand, and one of which only the head is needed.
    bound = 3 * len(urls) * max(sizes)
    splits = [open_set(url, cache, bound) for url in urls]
    most = 0
    steps = 2 * splits[0].num_samples // 64
    with loader_of(splits, weights=weights, batch_sequences=64, shuffle_group_bytes=1) as loader:
        for _ in range(steps):
            next(loader)
            most = max(most, taken_bytes(cache))
    for split in splits:
        split.close()
    downloads = sum(path.endswith(".arrow") for path in proxy.reads)
    assert downloads * min(sizes) > 2 * bound, "much more than the bound came"
    assert most <= bound


def taken_bytes(cache: Path) -> int:
    """Disk space of the files in the cache, those that lost their name while they are mapped included."""
    sizes = {}
    for entry in os.scandir(cache):
        if entry.is_file():
            try:
                stat = entry.stat()
            except FileNotFoundError:
                continue
            sizes[stat.st_ino] = stat.st_size
    for line in Path("/proc/self/maps").read_text().splitlines():
        span, _, _, _, inode, *path = line.split(maxsplit=5)
        if path and path[0].startswith(str(cache)):
            start, end = (int(value, 16) for value in span.split("-"))
            sizes.setdefault(int(inode), end - start - os.sysconf("SC_PAGE_SIZE") + 1)
    return sum(sizes.values())


def test_a_shard_that_is_wrong_on_the_server_ends_the_run_before_its_tokens_are_used(
    proxy: Proxy, upload: Callable[..., str], tmp_path: Path
) -> None:
    url = upload()
    bad = f"{url}/train/shard-00003.arrow"
    content = bytearray(fsspec.filesystem("s3").cat_file(bad))
    content[len(content) // 2] ^= 1
    fsspec.filesystem("s3").pipe_file(bad, bytes(content))
    split = open_set(url, tmp_path / "cache")
    used: set[int] = set()
    with loader_of([split], batch_sequences=1) as loader:
        with pytest.raises(UserError, match=f"{bad} is damaged, twice"):
            used.update(token for batch in iter(loader) for token in batch.tokens.ravel().tolist())
        with pytest.raises(UserError, match=f"{bad} is damaged, twice"):
            next(loader)
    split.close()
    assert not used & set(range(3 * SHARD_TOKENS, 4 * SHARD_TOKENS))


def test_a_copy_that_rotted_in_the_cache_is_fetched_again_before_its_tokens_are_used(
    proxy: Proxy, upload: Callable[..., str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    url = upload()
    epochs = []
    for rotten in (False, True):
        if rotten:
            (copy,) = (tmp_path / "cache").glob("*-shard-00003.arrow")
            content = bytearray(copy.read_bytes())
            content[len(content) // 2] ^= 1
            copy.write_bytes(content)
        split = open_set(url, tmp_path / "cache")
        with loader_of([split]) as loader, caplog.at_level(logging.WARNING):
            epochs.append(np.concatenate([next(loader).tokens for _ in range(split.num_samples // BATCH)]))
        split.close()
    assert np.array_equal(*epochs)
    assert f"cached copy of {url}/train/shard-00003.arrow is damaged" in caplog.text
    assert sum(path.endswith("shard-00003.arrow") for path in proxy.reads) == 2


def test_a_mixture_of_remote_sets_goes_on_exactly_at_any_other_world_size(
    proxy: Proxy, upload: Callable[..., str], tmp_path: Path
) -> None:
    urls = [upload(number) for number in range(3)]
    options = {"weights": (5.0, 3.0, 1.0), "shuffle_group_bytes": 1000}
    local = [open_set(str(tmp_path / f"set-{number}"), tmp_path / "unused") for number in range(3)]
    with loader_of(local, **options) as loader:
        expected = [next(loader) for _ in range(60)]
    assert {int(token) // SOURCE for batch in expected for token in batch.tokens[:, 0]} == {0, 1, 2}
    shard = max(path.stat().st_size for path in tmp_path.glob("set-*/train/*"))
    # From node to node: what is cached here is gone there.
    for node, (start, end, world) in enumerate([(0, 7, 2), (7, 8, 4), (8, 31, 3), (31, 60, 1)]):
        for rank in range(world):
            splits = [open_set(url, tmp_path / f"node-{node}", 12 * shard) for url in urls]
            with loader_of(splits, **options, start_step=start, rank=rank, world_size=world) as loader:
                for step in range(start, end):
                    batch = next(loader)
                    assert batch.sha256 == expected[step].sha256
                    assert np.array_equal(batch.tokens, expected[step].tokens[rank::world])
            for split in splits:
                split.close()
