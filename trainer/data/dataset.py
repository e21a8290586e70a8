"""Open a source of tokens: a prepared set or raw files, local or remote.

`open_tokens` gives a `TokenSplit`, `open_shards` what it is made of; `open_training` and `open_validation` open what a
run's settings name. Local files are mapped in place; remote ones stream through `trainer.data.cache`. A split's
fingerprint is that of dataset.json; raw files have none, so theirs is the sha256 of their names, sizes and sampled
content.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
import weakref
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from trainer.data.cache import ShardCache, file_is_gone, hold
from trainer.data.config import CacheConfig, DataConfig, Source
from trainer.data.formats import SUFFIXES, RawFile, inspect_file, open_raw_shard
from trainer.data.meta_pkl import META_FILE, read_meta
from trainer.data.remote import Location, locate
from trainer.data.shards import (
    DATASET_FILE,
    TOKENIZER_FILE,
    MappedShard,
    ShardInfo,
    load_dataset_json,
    open_arrow_shard,
)
from trainer.data.split import Shard, SplitShards, TokenizerInfo, TokenSplit
from trainer.errors import UserError

__all__ = ["SplitShards", "TokenSplit", "open_shards", "open_tokens", "open_training", "open_validation", "splits_of"]

# Raw files carry no hash: their fingerprint takes this much from the start, the middle and the end of each.
FINGERPRINT_SAMPLE_BYTES = 1 << 16
# llm.c, nanoGPT and build-nanogpt all put "val" into the names of their validation files: as a word of its own, which
# it is not in `retrieval_000.bin`.
VALIDATION_NAME = re.compile(r"(?<![a-z])val(id|idation)?(?![a-z])", re.IGNORECASE)


def open_training(config: DataConfig, sequence_length: int) -> list[TokenSplit]:
    """The training split of every source of a run, in order."""
    return [_open_configured(source, "train", sequence_length, config.cache) for source in config.train]


def open_validation(config: DataConfig, sequence_length: int) -> list[TokenSplit]:
    """The validation splits of a run: those it names, else the training sources' own; empty where there is none."""
    if config.validation:
        return [_open_configured(source, "validation", sequence_length, config.cache) for source in config.validation]
    own = [source for source in config.train if "validation" in splits_of(source)]
    return [
        open_tokens(source, split="validation", sequence_length=sequence_length, cache=config.cache) for source in own
    ]


def _open_configured(source: Source, default_split: str, sequence_length: int, cache: CacheConfig) -> TokenSplit:
    return open_tokens(source, split=source.split or default_split, sequence_length=sequence_length, cache=cache)


def open_tokens(source: Source, *, split: str, sequence_length: int, cache: CacheConfig) -> TokenSplit:
    """Open one split of a source.

    Raises UserError for anything the user can put right: a missing path or split, refused access, a file that is empty,
    truncated or of another type, or fewer tokens than one sample.
    """
    found = open_shards(source, split=split, cache=cache)
    if found.packed_length not in (None, sequence_length):
        raise UserError(
            f"{found.name} was packed into sequences of {found.packed_length} tokens, sequence_length is "
            f"{sequence_length}",
            expected="the length that its rows were filled for",
            fix=f"set sequence_length: {found.packed_length}, or prepare the set with chat.sequence_length: "
            f"{sequence_length}",
        )
    return TokenSplit(
        found.name,
        found.shards,
        fingerprint=found.fingerprint,
        sequence_length=sequence_length,
        remote_bytes=found.remote_bytes,
        tokenizer=found.tokenizer,
        vocab_size=found.vocab_size,
        text_bytes=found.text_bytes,
        packed=found.packed_length is not None,
    )


def open_shards(source: Source, *, split: str, cache: CacheConfig) -> SplitShards:
    """The shards of one split, in order; they may hold no tokens. Raises UserError as `open_tokens` does."""
    location = _existing(source.path)
    shard_cache = LazyCache(cache)
    if _is_prepared(source, location):
        return _prepared_shards(source, location, split, shard_cache)
    return _raw_shards(source, location, split, shard_cache)


def splits_of(source: Source) -> tuple[str, ...]:
    """Names of the splits that a source has; a single raw file is a training split."""
    location = _existing(source.path)
    if _is_prepared(source, location):
        where = location.join(DATASET_FILE)
        info = load_dataset_json(where.read(), where.url)
        return tuple(name for name, split in info.splits.items() if split.tokens)
    files = _raw_files(source, location)
    if _is_the_file_itself(files, location):
        return ("train",)
    return tuple(name for name in ("train", "validation") if _of_split(files, name))


class LazyCache:
    """The shard cache, whose folder is made when the first file needs it: local data needs none."""

    def __init__(self, config: CacheConfig) -> None:
        self._config = config
        self.max_bytes = config.max_bytes
        self._lock = threading.Lock()
        self._cache: ShardCache | None = None

    def get(self) -> ShardCache:
        """The cache, made if need be."""
        with self._lock:
            if self._cache is None:
                self._cache = ShardCache(self._config.folder(), self._config.max_bytes)
            return self._cache


def _existing(path: str) -> Location:
    location = locate(path)
    if location.info() is None:
        raise UserError(
            f"{path} does not exist",
            expected="a prepared data set, a token file or a folder of token files",
            fix="check the path, or make the data set with `gpt-run data prepare`",
        )
    return location


def _is_prepared(source: Source, location: Location) -> bool:
    if source.format not in ("auto", "arrow"):
        return False
    if location.join(DATASET_FILE).info() is not None:
        return True
    if source.format == "arrow":
        raise UserError(
            f"{source.path} holds no {DATASET_FILE}",
            expected="a folder that `gpt-run data prepare` completed",
            fix="prepare the data set again; dataset.json is written last, so this folder may be incomplete",
        )
    return False


def _prepared_shards(source: Source, location: Location, split: str, cache: LazyCache) -> SplitShards:
    where = location.join(DATASET_FILE)
    info = load_dataset_json(where.read(), where.url)
    part = info.splits.get(split)
    if part is None:
        raise UserError(
            f"{source.path} has no split {split!r}",
            expected=f"one of {', '.join(sorted(info.splits)) or 'its splits (it has none)'}",
            fix="name a split that exists, or prepare the data set with one",
        )
    itemsize = np.dtype(info.dtype).itemsize
    sizes = _shard_sizes(location, part.shards)
    shards = [
        Shard(
            shard.file,
            shard.tokens,
            shard.tokens * itemsize,
            _prepared_opener(
                location.join(shard.file), sizes[shard.file], shard, cache, marked=info.packing is not None
            ),
        )
        for shard in part.shards
    ]
    tokenizer_file = location.join(TOKENIZER_FILE)
    record = info.tokenizer
    return SplitShards(
        f"{source.path} ({split})",
        tuple(shards),
        fingerprint=info.fingerprint,
        remote_bytes=None if location.local else cache.max_bytes,
        tokenizer=TokenizerInfo(
            record.name,
            record.fingerprint,
            record.vocab_size,
            record.eos_id,
            tokenizer_file.url if tokenizer_file.info() is not None else None,
        ),
        text_bytes=sum(shard.text_bytes for shard in part.shards),
        packed_length=info.packing.sequence_length if info.packing is not None else None,
    )


def _shard_sizes(location: Location, shards: Sequence[ShardInfo]) -> dict[str, int]:
    """Bytes of every shard by its path, from a listing of each folder. UserError for one that is missing or truncated.

    All are looked at before the first step: a run should not learn after days that its last shard is not there.
    """
    folders = sorted({shard.file.rpartition("/")[0] for shard in shards})
    found = {
        f"{folder}/{name}".lstrip("/"): size
        for folder in folders
        for name, size in (location.join(folder) if folder else location).file_sizes().items()
    }
    for shard in shards:
        size, where = found.get(shard.file), location.join(shard.file).url
        if size is None:
            raise UserError(
                f"shard {where} is missing",
                expected=f"the file that {DATASET_FILE} lists",
                fix="copy the whole folder again, or prepare the data set again",
            )
        if size == 0 or (shard.bytes is not None and size != shard.bytes):
            raise UserError(
                f"shard {where} has {size} bytes",
                expected=f"{shard.bytes or 'more'} bytes, as {DATASET_FILE} says",
                fix="the file is truncated or was replaced: copy or prepare it again",
            )
    return found


def _prepared_opener(
    location: Location, size: int, shard: ShardInfo, cache: LazyCache, *, marked: bool
) -> Callable[[], MappedShard]:
    def map_shard() -> MappedShard:
        mapped = _map_file(
            lambda: _local_copy(location, cache, size, shard.sha256),
            partial(open_arrow_shard, marked=marked),
            cached=location.local is None,
        )
        if mapped.num_tokens != shard.tokens:
            raise UserError(
                f"shard {location.url} holds {mapped.num_tokens} tokens",
                expected=f"{shard.tokens} tokens, as {DATASET_FILE} says",
                fix="copy the shard again, or delete it and prepare the data set again",
            )
        return mapped

    return map_shard


def _local_copy(location: Location, cache: LazyCache, size: int, sha256: str | None = None) -> Path:
    """The file itself where it is local, else its copy in the cache."""
    if location.local is None:
        return cache.get().fetch(location, size=size, sha256=sha256)
    if not location.local.is_file():
        raise file_is_gone(location)
    return location.local


def _map_file(find: Callable[[], Path], map_path: Callable[[Path], MappedShard], *, cached: bool) -> MappedShard:
    """Map what `find` gives; again where another process made room in the cache between the two."""
    while True:
        path = find()
        try:
            return _hold_and_map(path, map_path) if cached else map_path(path)
        except FileNotFoundError:
            continue


def _hold_and_map(path: Path, map_path: Callable[[Path], MappedShard]) -> MappedShard:
    let_go = hold(path)
    try:
        mapped = map_path(path)
    except BaseException:
        let_go()
        raise
    weakref.finalize(mapped, let_go)
    return mapped


def _raw_shards(source: Source, location: Location, split: str, cache: LazyCache) -> SplitShards:
    found = _raw_files(source, location)
    files = found if _is_the_file_itself(found, location) else _of_split(found, split)
    if not files:
        raise UserError(
            f"{source.path} has no files of the split {split!r}: {', '.join(file.name for file in found[:5])}",
            expected="files with `val` in their name for validation, and others for training",
            fix="name the file itself, or give validation data of its own under data.validation",
        )
    shards = []
    identity = []
    for file in files:
        raw = inspect_file(file)
        name = file.path.removeprefix(location.path.rstrip("/") + "/") if file != location else file.name
        identity.append([name, raw.size, _sampled_sha256(file, raw.size)])
        shards.append(Shard(name, raw.tokens, raw.token_bytes, raw_opener(file, raw, cache)))
    meta = read_meta(files[0].sibling(META_FILE))
    return SplitShards(
        f"{source.path} ({split})",
        tuple(shards),
        fingerprint=hashlib.sha256(json.dumps(identity).encode()).hexdigest(),
        remote_bytes=None if location.local else cache.max_bytes,
        vocab_size=meta.vocab_size if meta else None,
    )


def raw_opener(location: Location, raw: RawFile, cache: LazyCache) -> Callable[[], MappedShard]:
    """What maps a raw file, out of the cache where it is remote."""

    def map_shard() -> MappedShard:
        return _map_file(
            lambda: _local_copy(location, cache, raw.size),
            lambda path: open_raw_shard(path, raw, cache.get),
            cached=location.local is None,
        )

    return map_shard


def _raw_files(source: Source, location: Location) -> list[Location]:
    """The token files of a source, folder by folder. Raises UserError where there is none, or formats are mixed."""
    info = location.info()
    is_file = info is not None and info["type"] == "file"
    suffixes = SUFFIXES if source.format == "auto" else (f".{source.format}",)
    files = [location] if is_file else location.files()
    tokens = [file for file in files if file.name.endswith(suffixes)]
    kinds = {file.name.rsplit(".", 1)[-1] for file in tokens}
    if not tokens:
        names = ", ".join(file.name for file in files[:5]) or "nothing"
        raise UserError(
            f"{source.path} holds no token files ({names})",
            expected=f"{DATASET_FILE}, or files ending in {', '.join(suffixes)}",
            fix="check the path, or make the data set with `gpt-run data prepare`",
        )
    if len(kinds) > 1:
        raise UserError(
            f"{source.path} holds files of several formats: {', '.join(sorted(kinds))}",
            expected="files of one format in a folder",
            fix="set `format` of this source to the one to read",
        )
    return tokens


def _is_the_file_itself(files: Sequence[Location], location: Location) -> bool:
    """Whether the source names a file and no folder: it is what it is wanted for, whatever it is called."""
    return len(files) == 1 and files[0].path == location.path


def _of_split(files: Sequence[Location], split: str) -> list[Location]:
    return [file for file in files if bool(VALIDATION_NAME.search(file.name)) == (split == "validation")]


def _sampled_sha256(location: Location, size: int) -> str:
    """Hash of a file's start, middle and end: tells versions apart without reading terabytes."""
    take = FINGERPRINT_SAMPLE_BYTES
    if size <= 3 * take:
        return hashlib.sha256(location.read()).hexdigest()
    digest = hashlib.sha256()
    for start in (0, (size - take) // 2, size - take):
        digest.update(location.read(start, start + take))
    return digest.hexdigest()
