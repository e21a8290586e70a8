"""Preparation: read sources, train or load a tokenizer, write shards and, last, dataset.json.

Called by `gpt-run data prepare`. Two passes over the text in bounded memory: a sample of it trains the tokenizer, then
all of it is encoded on all cores (the tokenizer library's own threads). Whether a document is used for validation
depends on its content alone. An output that is complete and was made from the same inputs is left as it is.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, ValidationError

from trainer.data.progress import progress
from trainer.data.shards import (
    DATASET_FILE,
    TOKENIZER_FILE,
    DatasetInfo,
    ShardWriter,
    SplitInfo,
    TokenizerRecord,
    load_dataset_json,
    token_dtype,
    write_atomically,
    write_dataset_json,
)
from trainer.data.sources import Document, TextSource
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

# Written first: tells a folder that preparation may clear from one that it must not touch.
INPUTS_FILE = "prepare.json"
# Raise when the same inputs give other shards than before.
METHOD = 1
SPLITS = ("train", "validation")
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
    """Path of the tokenizer.json."""


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
    try:
        return Pipeline.model_validate(raw)
    except ValidationError as error:
        complaints = [f"{'.'.join(str(part) for part in item['loc'])}: {item['msg']}" for item in error.errors()]
        raise UserError(
            f"pipeline {name}: {'; '.join(complaints)}",
            expected="the keys of a pipeline: " + ", ".join(Pipeline.model_fields),
            fix="correct the keys named above",
        ) from error


def prepare(pipeline: Pipeline, folder: Path, *, replace: bool = False) -> Prepared:
    """Run a pipeline into `folder`.

    Raises UserError where the folder holds something else: files that preparation did not write, or (without
    `replace`) a complete data set from other inputs.
    """
    inputs = _inputs(pipeline)
    done = _claim(folder, inputs, replace)
    if done is not None:
        return Prepared(folder, done, skipped=True)
    tokenizer = _make_tokenizer(pipeline)
    # Text that spells out a special token stays text.
    tokenizer.encode_special_tokens = True
    write_atomically(folder / TOKENIZER_FILE, tokenizer.to_str(pretty=True).encode())
    splits, reading = _write_splits(pipeline, folder, tokenizer)
    if not splits["train"].tokens:
        raise UserError(
            f"pipeline {pipeline.name} gives no training tokens from {reading.seen} documents",
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
        filters=reading.filters(),
        created_at=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    return Prepared(folder, write_dataset_json(folder, info), skipped=False)


def _shipped() -> Iterator[Any]:
    return iter(resources.files("trainer.data").joinpath("pipelines").iterdir())


def _inputs(pipeline: Pipeline) -> str:
    """Hash of everything that decides the output: settings, state of the sources, method, tokenizer file."""
    parts = [str(METHOD), settings_sha256(pipeline.model_copy(update={"output": "-"}))]
    parts += [source.fingerprint() for source in pipeline.sources]
    if isinstance(pipeline.tokenizer, FileTokenizer):
        parts.append(tokenizer_fingerprint(load_tokenizer(pipeline.tokenizer.path)))
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _claim(folder: Path, inputs: str, replace: bool) -> DatasetInfo | None:
    """Make `folder` ready for writing, or return the data set that is there and complete."""
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder} is a file", expected="a folder", fix="give another output")
    mark = folder / INPUTS_FILE
    if folder.is_dir() and any(folder.iterdir()):
        if not mark.is_file():
            names = ", ".join(sorted(path.name for path in folder.iterdir())[:5])
            raise UserError(
                f"{folder} holds files that preparation did not write: {names}",
                expected="an empty folder, a new one, or an output of this pipeline",
                fix="give another output",
            )
        described = folder / DATASET_FILE
        if described.is_file():
            if json.loads(mark.read_bytes()).get("inputs_sha256") == inputs:
                return load_dataset_json(described.read_bytes(), str(described))
            if not replace:
                raise UserError(
                    f"{folder} holds a data set from other inputs",
                    expected="an output of this pipeline, its sources and this Python unchanged",
                    fix="give another --output, or replace the data set with --replace",
                )
            # From here on the folder is an incomplete output.
            described.unlink()
        for split in SPLITS:
            shutil.rmtree(folder / split, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(mark, json.dumps({"inputs_sha256": inputs}).encode() + b"\n")
    return None


@dataclass
class _Reading:
    """Documents of a pipeline, cleaned: the order of sources, exact duplicates and undecodable files left out."""

    pipeline: Pipeline
    seen: int = 0
    undecodable: int = 0
    duplicates: int = 0
    _digests: set[bytes] = field(default_factory=set)

    def documents(self) -> Iterator[tuple[Document, str, int]]:
        """Document, its text, and a number in [0, 2**64) that its content picks."""
        for source in self.pipeline.sources:
            for document in source.documents():
                self.seen += 1
                if document.text is None:
                    self.undecodable += 1
                    continue
                digest = hashlib.sha256(f"{self.pipeline.seed}\n{document.text}".encode()).digest()
                if digest[:16] in self._digests:
                    self.duplicates += 1
                    continue
                self._digests.add(digest[:16])
                yield document, document.text, int.from_bytes(digest[16:24], "little")

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

        def sample() -> Iterator[str]:
            for document, text, number in _Reading(pipeline).documents():
                advance(document.num_bytes)
                if number % (1 << 32) < share * (1 << 32):
                    yield text

        return train_bpe(sample(), pipeline.tokenizer.vocab_size)


def _write_splits(pipeline: Pipeline, folder: Path, tokenizer: Tokenizer) -> tuple[dict[str, SplitInfo], _Reading]:
    reading = _Reading(pipeline)
    dtype = token_dtype(vocabulary_size(tokenizer))
    end = end_of_text_id(tokenizer)
    limit = pipeline.validation_fraction * (1 << 64)
    with ExitStack() as stack:
        writers = {
            split: stack.enter_context(ShardWriter(folder, split, dtype=dtype, shard_tokens=pipeline.shard_tokens))
            for split in SPLITS
        }
        total = sum(source.total_bytes() for source in pipeline.sources)
        advance = stack.enter_context(progress(f"encoding on {os.cpu_count()} cores", total))
        for texts in _batches(reading):
            encoded = tokenizer.encode_batch_fast([text for text, _ in texts], add_special_tokens=False)
            for (text, number), row in zip(texts, encoded, strict=True):
                split = "validation" if number < limit else "train"
                num_bytes = len(text.encode())
                writers[split].add([*row.ids, end], num_bytes)
                advance(num_bytes)
        return {split: SplitInfo.of(writer.close()) for split, writer in writers.items()}, reading


def _batches(reading: _Reading) -> Iterator[list[tuple[str, int]]]:
    """Texts with their numbers, in batches of about ENCODE_BYTES."""
    batch: list[tuple[str, int]] = []
    size = 0
    for document, text, number in reading.documents():
        batch.append((text, number))
        size += document.num_bytes
        if size >= ENCODE_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch
