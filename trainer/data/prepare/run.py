"""Preparation, top to bottom: clean the text, find repetitions, get a tokenizer, write shards and, last, dataset.json.

Called by `gpt-run data prepare`. Every stage runs on all cores in bounded memory and leaves files that an interrupted
preparation goes on from; what is written depends on the inputs alone, not on the number of workers or on where it was
interrupted. Whether a document is used for validation depends on its content. An output that is complete and was made
from the same inputs is left as it is.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer

from trainer.data.chat import write_template
from trainer.data.clean.exact import exact_duplicates
from trainer.data.clean.near import near_duplicates
from trainer.data.output import Mark, check_ours, claim, claim_cleaned, complete_set, sole_writer, write_mark
from trainer.data.prepare.cleaned import EXACT, NEAR, CleanTask, Counts, clean_part
from trainer.data.prepare.conversations import DROPS, encode_conversations, require_samples
from trainer.data.prepare.encode import FOLDER as TOKENS
from trainer.data.prepare.encode import encode
from trainer.data.prepare.engine import Engine, Processes
from trainer.data.prepare.pipeline import ChatPipeline, Pipeline, TokenPipeline
from trainer.data.prepare.text import Text
from trainer.data.prepare.tokens import copy_tokens
from trainer.data.progress import progress
from trainer.data.shards import (
    TOKENIZER_FILE,
    DatasetInfo,
    PackingRecord,
    SplitInfo,
    TokenizerRecord,
    token_dtype,
    write_dataset_json,
)
from trainer.data.tokenizer import end_of_text_id, load_tokenizer, tokenizer_fingerprint, vocabulary_size
from trainer.data.tokenizers.config import BpeTokenizer, load_tokenizer_spec
from trainer.data.tokenizers.encoder import Encoder
from trainer.data.tokenizers.train import train_tokenizer
from trainer.durable import full_disk_named, write_atomically
from trainer.errors import UserError
from trainer.paths import require_local

# Cleaned text that no pipeline shares.
CLEANED = ".prepare.cleaned"
# Less text is encoded before a faster engine is proven right.
FAST_BYTES = 50_000_000


@dataclass(frozen=True)
class Prepared:
    """What `prepare` leaves behind."""

    folder: Path
    info: DatasetInfo
    skipped: bool
    """The output was complete already."""


def prepare(
    pipeline: Pipeline | TokenPipeline, folder: Path, *, replace: bool = False, engine: Engine | None = None
) -> Prepared:
    """Run a pipeline into `folder`, or finish what an interrupted run left there. Waits while another process does so.

    Raises UserError where the folder holds something else (files that preparation did not write, or, without `replace`,
    a complete data set from other inputs), where its disk is full, and where no text is left.
    """
    _check_places(pipeline, folder)
    inputs = pipeline.inputs()
    check_ours(folder)
    # Asked before the lock too: a complete output may lie where nothing can be written.
    done = complete_set(folder, inputs.output)
    if done is not None:
        return Prepared(folder, done, skipped=True)
    on_full_disk = "free space there, or give another --output; run again, what is finished is kept"
    engine = engine or Processes()
    try:
        with sole_writer(folder), full_disk_named(folder, needs="the data set", fix=on_full_disk):
            done = complete_set(folder, inputs.output)
            if done is not None:
                return Prepared(folder, done, skipped=True)
            mark = claim(folder, inputs.output, replace=replace)
            if isinstance(pipeline, TokenPipeline):
                info = _describe(pipeline, folder, copy_tokens(pipeline, folder, mark), filters=())
            else:
                info = _make_set(pipeline, folder, mark, engine, inputs.cleaning, replace=replace)
            return Prepared(folder, info, skipped=False)
    finally:
        engine.close()


def _check_places(pipeline: Pipeline | TokenPipeline, folder: Path) -> None:
    """UserError for folders that cannot be written, or that would be in each other's way."""
    upload = "write to a local folder, and bring it up with `gpt-run data fetch FOLDER --output URL`"
    require_local(folder, "output", fix=upload)
    if isinstance(pipeline, TokenPipeline) or pipeline.cleaned is None:
        return
    cleaned = Path(pipeline.cleaned)
    require_local(cleaned, "cleaned", fix="name a local folder")
    # Each has a lock and a mark of its own; and cleaned text that is replaced would take the output with it.
    if folder.resolve().is_relative_to(cleaned.resolve()):
        raise UserError(
            f"cleaned {cleaned} " + ("is" if folder.resolve() == cleaned.resolve() else "holds") + f" output {folder}",
            expected="a folder of its own for the cleaned text",
            fix="name another folder as `cleaned`, or leave it out",
        )


def _make_set(
    pipeline: Pipeline, folder: Path, mark: Mark, engine: Engine, cleaning_sha256: str, *, replace: bool
) -> DatasetInfo:
    shared = pipeline.cleaned is not None
    cleaned = Path(pipeline.cleaned) if pipeline.cleaned is not None else folder / CLEANED
    with sole_writer(cleaned):
        claim_cleaned(cleaned, cleaning_sha256, replace=replace or not shared)
        counts, text = _clean(pipeline, cleaned, engine)
    filters = _filters(pipeline, counts, text)
    if text.documents == 0:
        raise UserError(
            f"pipeline {pipeline.name} leaves no text of {counts.seen} documents: {_dropped(filters)}",
            expected="at least one document that no step drops",
            fix="check the sources and the step that dropped most",
        )
    mark = _provide_tokenizer(pipeline, folder, mark, text, engine)
    tokenizer = load_tokenizer(folder / TOKENIZER_FILE)
    if isinstance(pipeline, ChatPipeline):
        return _pack(pipeline, folder, mark, tokenizer, text, engine, filters)
    encoder = Encoder(tokenizer, "auto" if text.num_bytes >= FAST_BYTES else "tokenizers")
    with progress(f"encoding by {engine.name}", text.num_bytes) as advance:
        limit, shard_tokens = pipeline.validation_fraction * (1 << 64), pipeline.shard_tokens
        splits = encode(text, folder, mark, encoder, engine, advance, limit=limit, shard_tokens=shard_tokens)
    if not splits["train"].tokens:
        raise UserError(
            f"pipeline {pipeline.name} gives no training tokens: all {text.documents} documents are for validation",
            expected="at least one document that is not",
            fix="give it more text, or lower validation_fraction",
        )
    info = _describe(pipeline, folder, splits, filters)
    _tidy(folder)
    return info


def _pack(
    pipeline: ChatPipeline,
    folder: Path,
    mark: Mark,
    tokenizer: Tokenizer,
    text: Text,
    engine: Engine,
    filters: tuple[dict[str, Any], ...],
) -> DatasetInfo:
    """Conversations become packed rows; the template lies beside the tokenizer, for exports of what learns from it."""
    template = pipeline.load_template()
    write_template(folder, template)
    with progress(f"packing by {engine.name}", text.num_bytes) as advance:
        packed = encode_conversations(
            text,
            folder,
            mark,
            tokenizer,
            template,
            engine,
            advance,
            settings=pipeline.chat,
            limit=pipeline.validation_fraction * (1 << 64),
            shard_tokens=pipeline.shard_tokens,
        )
    require_samples(packed, pipeline.name)
    left = text.documents
    for rule in DROPS:
        filters += ({"name": rule, "seen": left, "dropped": packed.drops[rule]},)
        left -= packed.drops[rule]
    info = _describe(pipeline, folder, packed.splits, filters, packed.record(pipeline.chat))
    _tidy(folder)
    return info


def _tidy(folder: Path) -> None:
    for unneeded in (folder / TOKENS, folder / CLEANED):
        shutil.rmtree(unneeded, ignore_errors=True)


def _clean(pipeline: Pipeline, folder: Path, engine: Engine) -> tuple[Counts, Text]:
    """Clean all parts of all sources and find repetitions among what is left."""
    parts = [(source, part) for source in pipeline.sources for part in source.parts()]
    tasks = [
        CleanTask(folder, number, source, part, pipeline.clean, pipeline.duplicates, pipeline.seed)
        for number, (source, part) in enumerate(parts)
    ]
    total = Counts()
    with progress(f"cleaning by {engine.name}", sum(part.num_bytes for _, part in parts)) as advance:
        for (_, part), counts in zip(parts, engine.map(clean_part, tasks), strict=True):
            total.add(counts)
            advance(part.num_bytes)
    nothing = np.empty(0, dtype=np.uint64)
    exact = exact_duplicates(folder / EXACT, run=engine.map) if pipeline.duplicates.exact else nothing
    near = near_duplicates(folder / NEAR, run=engine.map) if pipeline.duplicates.near is not None else nothing
    return total, Text(folder, len(parts), total.kept, total.text_bytes, exact, near=np.setdiff1d(near, exact))


def _filters(pipeline: Pipeline, counts: Counts, text: Text) -> tuple[dict[str, Any], ...]:
    """What was left out and why, for dataset.json, in the order in which a document meets it."""
    rules = [rule for step in pipeline.clean for rule in step.rules()]
    dropped = {"utf-8": 0} | dict(sorted(counts.problems.items())) | {rule: counts.drops[rule] for rule in rules}
    if pipeline.duplicates.exact:
        dropped["exact-duplicate"] = len(text.exact)
    if pipeline.duplicates.near is not None:
        dropped["near-duplicate"] = len(text.near)
    filters, seen = [], counts.seen
    for name, number in dropped.items():
        filters.append({"name": name, "seen": seen, "dropped": number})
        seen -= number
    return tuple(filters)


def _dropped(filters: Sequence[dict[str, Any]]) -> str:
    most = sorted((one for one in filters if one["dropped"]), key=lambda one: -one["dropped"])
    return ", ".join(f"{one['name']} dropped {one['dropped']}" for one in most) or "the sources have none"


def _provide_tokenizer(pipeline: Pipeline, folder: Path, mark: Mark, text: Text, engine: Engine) -> Mark:
    """See that tokenizer.json is there: an earlier run's, an existing one, or one trained on a sample of the text."""
    path, settings = folder / TOKENIZER_FILE, pipeline.tokenizer
    known = mark.tokenizer_fingerprint
    if known is not None and path.is_file() and tokenizer_fingerprint(load_tokenizer(path)) == known:
        return mark
    if isinstance(settings, BpeTokenizer):
        with progress("tokenizer: reading", min(settings.sample_bytes, text.num_bytes)) as advance:
            sample = text.sample(settings.sample_bytes, engine, advance)
        tokenizer = train_tokenizer(settings, sample)
    else:
        tokenizer = load_tokenizer_spec(settings)
    write_atomically(path, tokenizer.to_str(pretty=True).encode())
    # Shards that another tokenizer made do not count as finished.
    mark = Mark(inputs_sha256=mark.inputs_sha256, tokenizer_fingerprint=tokenizer_fingerprint(tokenizer))
    write_mark(folder, mark)
    return mark


def _describe(
    pipeline: Pipeline | TokenPipeline,
    folder: Path,
    splits: dict[str, SplitInfo],
    filters: tuple[dict[str, Any], ...],
    packing: PackingRecord | None = None,
) -> DatasetInfo:
    """Write dataset.json."""
    tokenizer = load_tokenizer(folder / TOKENIZER_FILE)
    info = DatasetInfo(
        name=pipeline.name,
        tokenizer=TokenizerRecord(
            name=pipeline.tokenizer_name,
            fingerprint=tokenizer_fingerprint(tokenizer),
            vocab_size=vocabulary_size(tokenizer),
            eos_id=end_of_text_id(tokenizer),
        ),
        dtype=token_dtype(vocabulary_size(tokenizer)),
        splits=splits,
        sources=tuple(source.record() for source in pipeline.sources),
        filters=filters,
        packing=packing,
        created_at=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    return write_dataset_json(folder, info)
