"""Inspection, top to bottom: open every split, check hashes if asked to, read what is to be read, fill the report.

Called by `gpt-run data inspect`. Totals, filters and sources come from dataset.json at once; lengths, vocabulary use,
repeats and samples need tokens to be read, by default of so many shards that it takes seconds.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterable

from trainer.data.config import CacheConfig, Source
from trainer.data.dataset import open_shards, splits_of
from trainer.data.inspect.reading import Opened, Portion, portions
from trainer.data.inspect.report import Filter, Read, Report, Split
from trainer.data.inspect.scan import Counted, scan
from trainer.data.inspect.summary import lengths_of, overlap_of, repeats_of, sample_of, vocabulary_of
from trainer.data.inspect.words import Words, words_of_prepared, words_of_raw
from trainer.data.output import MARK_FILE
from trainer.data.progress import Advance, progress
from trainer.data.remote import locate
from trainer.data.shards import DATASET_FILE, DatasetInfo, ShardInfo, load_dataset_json
from trainer.errors import UserError
from trainer.storage_errors import clean_url

TRAIN = "train"
# Read of each split unless all is asked for: a second or two of one core.
SAMPLED_TOKENS = 50_000_000
# Work on less needs no progress bar.
LONG_BYTES = 200_000_000


def inspect_data(
    path: str,
    *,
    split: str | None = None,
    full: bool = False,
    samples: int = 3,
    tokenizer: str | None = None,
    verify: bool = False,
    sampled_tokens: int = SAMPLED_TOKENS,
) -> Report:
    """Look into a data set or raw token files: a path or any fsspec URL.

    split: look at this one only. full: read all tokens, not about `sampled_tokens` of each split. samples: documents
    to decode. tokenizer: tokenizer.json or its folder, for raw files or a set that has none beside it. verify: hash
    every shard first. Raises UserError for whatever is wrong with the data, with the file's name.
    """
    info = _description(path)
    names = _splits(path, info, split)
    filters = _filters(path, info) if info else ()
    words, opened = _open(path, info, names, tokenizer)
    verified = _verify(path, info, names) if verify else None
    chosen = {
        name: portions(one.shards.shards, None if full else sampled_tokens, whole_shards=info is not None)
        for name, one in opened.items()
    }
    with _progress("reading", sum(_num_bytes(opened[name], chosen[name]) for name in names)) as advance:
        counted = {name: scan(opened[name], chosen[name], samples=samples, advance=advance) for name in names}
    first = opened[names[0]].shards
    return Report(
        path=clean_url(path),
        name=info.name if info else None,
        created_at=info.created_at if info else None,
        sources=info.sources if info else (),
        fingerprint=first.fingerprint,
        tokenizer=words.tokenizer,
        filters=filters,
        splits=tuple(_split(name, counted, info, words) for name in names),
        verified_shards=verified,
    )


def _description(path: str) -> DatasetInfo | None:
    root = locate(path)
    where = root.join(DATASET_FILE)
    if where.info() is not None:
        return load_dataset_json(where.read(), where.url)
    if root.join(MARK_FILE).info() is not None:
        raise UserError(
            f"{clean_url(path)} has no {DATASET_FILE}: its preparation did not end",
            expected="a folder that `gpt-run data prepare` completed",
            fix="run `gpt-run data prepare` again; it goes on where it stopped",
        )
    return None


def _splits(path: str, info: DatasetInfo | None, wanted: str | None) -> list[str]:
    """The splits to look at, training first."""
    known = sorted(info.splits if info else splits_of(Source(path=path)), key=lambda name: (name != TRAIN, name))
    if wanted is not None and wanted not in known:
        raise UserError(
            f"{clean_url(path)} has no split {wanted!r}",
            expected=f"one of {', '.join(known)}" if known else "a data set with splits; this one has none",
            fix="name a split that exists, or leave out --split",
        )
    names = known if wanted is None else [wanted]
    if info is not None and not any(info.splits[name].tokens for name in names):
        full = [name for name in known if info.splits[name].tokens]
        raise UserError(
            f"{clean_url(path)}: the split {wanted!r} is empty" if wanted else f"{clean_url(path)} holds no tokens",
            expected="a split with tokens" + (f": {', '.join(full)}" if full else ""),
            fix="name another split" if full else "prepare the data set again",
        )
    return names


def _open(
    path: str, info: DatasetInfo | None, names: list[str], tokenizer: str | None
) -> tuple[Words, dict[str, Opened]]:
    source = Source(path=path)
    shards = {name: open_shards(source, split=name, cache=CacheConfig()) for name in names}
    first = shards[names[0]]
    if info is None:
        file = first.shards[0].name
        root = path.rstrip("/")
        words = words_of_raw(root if root.rsplit("/", 1)[-1] == file else f"{root}/{file}", tokenizer)
    else:
        assert first.tokenizer is not None, "a prepared set names its tokenizer"
        words = words_of_prepared(first.tokenizer, tokenizer)
    known = words.tokenizer
    return words, {
        name: Opened(
            path,
            shards[name],
            tuple(shard.documents for shard in info.splits[name].shards) if info else None,
            known.vocab_size if known else None,
            known.eos_id if known else None,
        )
        for name in names
    }


def _split(name: str, every: dict[str, Counted], info: DatasetInfo | None, words: Words) -> Split:
    counted, described = every[name], info.splits[name] if info else None
    shards = counted.opened.shards.shards
    tokens, text_bytes = sum(shard.tokens for shard in shards), counted.opened.shards.text_bytes or None
    compared = every.get(TRAIN) if name != TRAIN else None
    documents = described.documents if described else counted.documents if counted.complete else None
    return Split(
        name=name,
        tokens=tokens,
        documents=documents,
        shards=len(shards),
        token_bytes=sum(shard.token_bytes for shard in shards),
        text_bytes=text_bytes,
        bytes_per_token=text_bytes / tokens if text_bytes and tokens else None,
        read=Read(
            shards=counted.shards,
            tokens=counted.tokens,
            documents=counted.documents,
            share=counted.tokens / tokens if tokens else 1.0,
            complete=counted.complete,
        ),
        lengths=lengths_of(counted.lengths),
        vocabulary=vocabulary_of(counted.ids, words),
        repeats=repeats_of(counted, words),
        also_in_train=overlap_of(counted.contents, compared.contents) if compared else None,
        samples=tuple(sample_of(counted, excerpt, words) for excerpt in counted.samples),
    )


def _filters(path: str, info: DatasetInfo) -> tuple[Filter, ...]:
    filters = []
    for number, entry in enumerate(info.filters):
        name, seen, dropped = (entry.get(key) for key in ("name", "seen", "dropped"))
        if not (isinstance(name, str) and isinstance(seen, int) and isinstance(dropped, int)):
            raise UserError(
                f"{clean_url(locate(path).join(DATASET_FILE).url)}: filters.{number} is {entry}",
                expected="name, seen and dropped: a word and two whole numbers",
                fix="prepare the data set again",
            )
        filters.append(Filter(name=name, seen=seen, dropped=dropped, share=dropped / seen if seen else 0.0))
    return tuple(filters)


def _verify(path: str, info: DatasetInfo | None, names: Iterable[str]) -> int:
    """Compare the hash of every shard; how many there are. A wrong one is a UserError that names it."""
    if info is None:
        raise UserError(
            f"{clean_url(path)} has no {DATASET_FILE} to verify against",
            expected="a prepared data set, whose shards have known hashes",
            fix="leave out --verify: headers and sizes of raw files were checked already",
        )
    shards = [shard for name in names for shard in info.splits[name].shards]
    with _progress("verifying", sum(shard.bytes or 0 for shard in shards)) as advance:
        for shard in shards:
            _verify_shard(path, shard)
            advance(shard.bytes or 0)
    return len(shards)


def _verify_shard(path: str, shard: ShardInfo) -> None:
    location = locate(path).join(shard.file)
    with location.open() as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != shard.sha256:
        raise UserError(
            f"shard {clean_url(location.url)} has sha256 {found}",
            expected=f"sha256 {shard.sha256}, as {DATASET_FILE} says",
            fix="copy the shard again, or delete it and prepare the data set again",
        )


def _num_bytes(opened: Opened, chosen: Iterable[Portion]) -> int:
    shards = opened.shards.shards
    return sum(one.tokens * shards[one.shard].token_bytes // max(shards[one.shard].tokens, 1) for one in chosen)


def _progress(label: str, num_bytes: int) -> contextlib.AbstractContextManager[Advance]:
    return progress(label, num_bytes) if num_bytes >= LONG_BYTES else contextlib.nullcontext(lambda _: None)
