"""Preparation: read sources, train or load a tokenizer, write shards and, last, dataset.json.

Called by `gpt-run data prepare`. Two passes over the text in bounded memory: a sample of it trains the tokenizer, then
all of it is encoded on all cores (the tokenizer library's own threads). Whether a document is used for validation
depends on its content alone. An output that is complete and was made from the same inputs is left as it is; of an
interrupted one, the tokenizer and the finished shards are kept and the text behind them is read but not encoded again.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

from pydantic import Field, ValidationError

from trainer.complaints import complaints
from trainer.data.disk import full_disk_named
from trainer.data.output import SPLITS, Mark, check_ours, claim, complete_set, sole_writer, write_mark
from trainer.data.progress import Advance, progress
from trainer.data.shards import (
    TOKENIZER_FILE,
    DatasetInfo,
    ShardWriter,
    SplitInfo,
    TokenizerRecord,
    token_dtype,
    write_atomically,
    write_dataset_json,
)
from trainer.data.sources import TextSource
from trainer.data.tokenizer import (
    SMALLEST_VOCABULARY,
    end_of_text_id,
    load_tokenizer,
    tokenizer_fingerprint,
    train_bpe,
    vocabulary_size,
)
from trainer.errors import UserError
from trainer.settings import Settings, settings_sha256
from trainer.yaml_dialect import load_yaml

if TYPE_CHECKING:
    from tokenizers import Tokenizer

# Raise when the same inputs give other shards than before.
METHOD = 1
# Text that is encoded at once: enough for all cores, little enough to hold.
ENCODE_BYTES = 4_000_000


class BpeTokenizer(Settings):
    """Train byte-level BPE on a sample of the text."""

    type: Literal["bpe"]
    vocab_size: int = Field(ge=SMALLEST_VOCABULARY, le=1 << 24)
    """Ids, the end-of-text token included."""
    sample_bytes: int = Field(default=100_000_000, gt=0)
    """Text to train on, in bytes: an even sample of the documents."""


class FileTokenizer(Settings):
    """Use a tokenizer.json that exists."""

    type: Literal["file"]
    path: str = Field(min_length=1)
    """Path or URL of the tokenizer.json."""


class Pipeline(Settings):
    """One prepared data set: sources, tokenizer, and how it is cut."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]*$")
    """Name of the data set."""
    output: str = Field(min_length=1)
    """Folder that is written."""
    sources: tuple[TextSource, ...] = Field(min_length=1)
    """Where text comes from, in this order."""
    tokenizer: Annotated[BpeTokenizer | FileTokenizer, Field(discriminator="type")]
    """The tokenizer."""
    validation_fraction: float = Field(default=0.005, ge=0, lt=1)
    """Share of the documents that go to the validation split, picked by the hash of their text."""
    shard_tokens: int = Field(default=100_000_000, gt=0)
    """Tokens of one shard; the document that reaches it is the shard's last."""
    seed: int = 0
    """Changes which documents are used for validation and for the tokenizer's sample."""

    @property
    def tokenizer_name(self) -> str:
        """What dataset.json calls the tokenizer."""
        if isinstance(self.tokenizer, BpeTokenizer):
            return f"{self.name}-bpe-{self.tokenizer.vocab_size}"
        return Path(self.tokenizer.path).stem


@dataclass(frozen=True)
class Prepared:
    """What `prepare` leaves behind."""

    folder: Path
    info: DatasetInfo
    skipped: bool
    """The output was complete already."""


def load_pipeline(name: str) -> Pipeline:
    """Read a pipeline from a YAML file, or one that comes with the package by its name."""
    shipped = {path.name.removesuffix(".yaml"): path for path in _shipped() if path.name.endswith(".yaml")}
    if name in shipped:
        with resources.as_file(shipped[name]) as path:
            raw = load_yaml(path)
    elif Path(name).is_file():
        raw = load_yaml(Path(name))
    else:
        raise UserError(
            f"no pipeline {name}",
            expected=f"a YAML file, or one of {', '.join(sorted(shipped))}",
            fix="check the path of the pipeline file",
        )
    if not isinstance(raw, dict):
        raise UserError(
            f"pipeline {name}: " + ("empty" if raw is None else f"a {type(raw).__name__}, not a mapping"),
            expected="the keys of a pipeline: " + ", ".join(Pipeline.model_fields),
            fix="write the file as `key: value` lines",
        )
    try:
        return Pipeline.model_validate(raw)
    except ValidationError as error:
        raise UserError(
            f"pipeline {name}: {'; '.join(complaints(error, raw, Pipeline))}",
            expected="the keys of a pipeline: " + ", ".join(Pipeline.model_fields),
            fix="correct the keys named above",
        ) from error


def prepare(pipeline: Pipeline, folder: Path, *, replace: bool = False) -> Prepared:
    """Run a pipeline into `folder`, or finish what an interrupted run left there. Waits while another process does so.

    Raises UserError where the folder holds something else (files that preparation did not write, or, without `replace`,
    a complete data set from other inputs), and where its disk is full.
    """
    inputs = _inputs(pipeline)
    check_ours(folder)
    # Asked before the lock too: a complete output may lie where nothing can be written.
    done = complete_set(folder, inputs)
    if done is not None:
        return Prepared(folder, done, skipped=True)
    on_full_disk = "free space there, or give another --output; run again, finished shards are kept"
    with sole_writer(folder), full_disk_named(folder, needs="the data set", fix=on_full_disk):
        done = complete_set(folder, inputs)
        if done is not None:
            return Prepared(folder, done, skipped=True)
        return Prepared(folder, _make_set(pipeline, folder, claim(folder, inputs, replace=replace)), skipped=False)


def _shipped() -> Iterator[Any]:
    return iter(resources.files("trainer.data").joinpath("pipelines").iterdir())


def _inputs(pipeline: Pipeline) -> str:
    """Hash of everything that decides the output: settings, state of the sources, method, tokenizer file."""
    parts = [str(METHOD), settings_sha256(pipeline.model_copy(update={"output": "-"}))]
    parts += [source.fingerprint() for source in pipeline.sources]
    if isinstance(pipeline.tokenizer, FileTokenizer):
        parts.append(tokenizer_fingerprint(load_tokenizer(pipeline.tokenizer.path)))
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _make_set(pipeline: Pipeline, folder: Path, mark: Mark) -> DatasetInfo:
    tokenizer = _finished_tokenizer(folder, mark)
    if tokenizer is None:
        tokenizer = _make_tokenizer(pipeline)
        write_atomically(folder / TOKENIZER_FILE, tokenizer.to_str(pretty=True).encode())
        # Shards that another tokenizer made do not count as finished.
        mark = Mark(inputs_sha256=mark.inputs_sha256, tokenizer_fingerprint=tokenizer_fingerprint(tokenizer))
        write_mark(folder, mark)
    # Text that spells out a special token stays text.
    tokenizer.encode_special_tokens = True
    splits, filters = _write_splits(pipeline, folder, tokenizer, mark)
    if not splits["train"].tokens:
        raise UserError(
            f"pipeline {pipeline.name} gives no training tokens from {filters[0]['seen']} documents",
            expected="at least one document of UTF-8 text that is not used for validation",
            fix="check the sources, or lower validation_fraction",
        )
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
        created_at=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    return write_dataset_json(folder, info)


def _finished_tokenizer(folder: Path, mark: Mark) -> Tokenizer | None:
    path = folder / TOKENIZER_FILE
    if mark.tokenizer_fingerprint is None or not path.is_file():
        return None
    tokenizer = load_tokenizer(path)
    return tokenizer if tokenizer_fingerprint(tokenizer) == mark.tokenizer_fingerprint else None


class _Text(NamedTuple):
    """A document that is used: its text, and a number in [0, 2**64) that its content picks."""

    text: str
    num_bytes: int
    number: int


@dataclass
class _Reading:
    """Documents of a pipeline, cleaned: the order of sources, exact duplicates and undecodable files left out."""

    pipeline: Pipeline
    advance: Advance
    """Told the bytes of each document that was read, left out or not."""
    seen: int = 0
    undecodable: int = 0
    duplicates: int = 0
    _digests: set[bytes] = field(default_factory=set)

    def texts(self) -> Iterator[_Text]:
        for source in self.pipeline.sources:
            for document in source.documents():
                self.seen += 1
                self.advance(document.num_bytes)
                if document.text is None:
                    self.undecodable += 1
                    continue
                digest = hashlib.sha256(f"{self.pipeline.seed}\n{document.text}".encode()).digest()
                if digest[:16] in self._digests:
                    self.duplicates += 1
                    continue
                self._digests.add(digest[:16])
                yield _Text(document.text, document.num_bytes, int.from_bytes(digest[16:24], "little"))

    def filters(self) -> tuple[dict[str, Any], ...]:
        """What was left out, for dataset.json."""
        return (
            {"name": "utf-8", "seen": self.seen, "dropped": self.undecodable},
            {"name": "exact-duplicate", "seen": self.seen - self.undecodable, "dropped": self.duplicates},
        )


def _make_tokenizer(pipeline: Pipeline) -> Tokenizer:
    if isinstance(pipeline.tokenizer, FileTokenizer):
        return load_tokenizer(pipeline.tokenizer.path)
    total = sum(source.total_bytes() for source in pipeline.sources)
    # The low bits pick the sample, the whole number the validation split: the two must not be correlated.
    share = min(1.0, pipeline.tokenizer.sample_bytes / max(total, 1))
    with progress("tokenizer: reading", total) as advance:
        texts = _Reading(pipeline, advance).texts()
        sample = (text.text for text in texts if text.number % (1 << 32) < share * (1 << 32))
        return train_bpe(sample, pipeline.tokenizer.vocab_size)


def _write_splits(
    pipeline: Pipeline, folder: Path, tokenizer: Tokenizer, mark: Mark
) -> tuple[dict[str, SplitInfo], tuple[dict[str, Any], ...]]:
    """Write the shards that `mark` does not have yet; returns the splits and what was left out of them."""
    dtype = token_dtype(vocabulary_size(tokenizer))
    end = end_of_text_id(tokenizer)
    limit = pipeline.validation_fraction * (1 << 64)
    with ExitStack() as stack:
        writers = {
            split: stack.enter_context(
                ShardWriter(folder, split, dtype=dtype, shard_tokens=pipeline.shard_tokens, after=mark.shards[split])
            )
            for split in SPLITS
        }
        total = sum(source.total_bytes() for source in pipeline.sources)
        reading = _Reading(pipeline, stack.enter_context(progress(f"encoding on {os.cpu_count()} cores", total)))
        used = (("validation" if text.number < limit else "train", text) for text in reading.texts())
        for batch in _batches(_behind(mark, used)):
            encoded = tokenizer.encode_batch_fast([text.text for _, text in batch], add_special_tokens=False)
            for (split, text), row in zip(batch, encoded, strict=True):
                writers[split].add([*row.ids, end], text.num_bytes)
            finished = {split: writer.finished for split, writer in writers.items()}
            if finished != mark.shards:
                mark = mark.model_copy(update={"shards": finished})
                write_mark(folder, mark)
        return {split: SplitInfo.of(writer.close()) for split, writer in writers.items()}, reading.filters()


def _behind(mark: Mark, texts: Iterable[tuple[str, _Text]]) -> Iterator[tuple[str, _Text]]:
    """The texts that no finished shard holds: a shard ends with a whole document, and their order never changes."""
    finished = {split: sum(shard.documents for shard in shards) for split, shards in mark.shards.items()}
    for split, text in texts:
        if finished[split]:
            finished[split] -= 1
        else:
            yield split, text


def _batches(texts: Iterable[tuple[str, _Text]]) -> Iterator[list[tuple[str, _Text]]]:
    """Texts in batches of about ENCODE_BYTES."""
    batch: list[tuple[str, _Text]] = []
    size = 0
    for split, text in texts:
        batch.append((split, text))
        size += text.num_bytes
        if size >= ENCODE_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch
