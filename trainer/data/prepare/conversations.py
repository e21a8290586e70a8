"""The last stage for conversations: rendered by a chat template, encoded with their answers marked, packed into rows.

Workers encode parts into files, as for plain text (`encode`); this process packs them in one order. What is packed
depends on that order alone, so an interrupted preparation goes on behind the rows that finished shards hold.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from tokenizers import Tokenizer

from trainer.data.chat import ChatTemplate, Encoded, Message
from trainer.data.marks import CONTEXT, FIRST
from trainer.data.output import SPLITS, Mark, shard_writers
from trainer.data.prepare.cleaned import read_texts
from trainer.data.prepare.encode import FOLDER
from trainer.data.prepare.engine import Engine
from trainer.data.prepare.packing import pack
from trainer.data.prepare.pipeline import ChatSettings
from trainer.data.prepare.text import Text
from trainer.data.progress import Advance
from trainer.data.shards import PackingRecord, SplitInfo, token_dtype
from trainer.data.tokenizer import end_of_text_id, vocabulary_size
from trainer.errors import UserError

_SCHEMA = pa.schema([("tokens", pa.large_list(pa.int64())), ("marks", pa.large_list(pa.uint8()))])
# Why conversations are dropped, in the order in which they are asked.
DROPS = ("no-answer", "special-token", "too-long")
# Conversations that are written at once.
_BATCH = 1000


class ChatTask(NamedTuple):
    """One part of one split to encode into one file."""

    text: Path
    output: Path
    tokenizer: str
    """JSON."""
    template: ChatTemplate
    settings: ChatSettings
    wanted: npt.NDArray[np.bool_]


@dataclass
class Packed:
    """What became of all conversations."""

    splits: dict[str, SplitInfo] = field(default_factory=dict)
    drops: Counter[str] = field(default_factory=Counter)
    cut: int = 0
    samples: int = 0
    sample_tokens: int = 0
    answer_tokens: int = 0
    padding_tokens: int = 0

    def record(self, settings: ChatSettings) -> PackingRecord:
        """For dataset.json."""
        return PackingRecord(
            sequence_length=settings.sequence_length,
            samples=self.samples,
            cut_samples=self.cut,
            answer_tokens=self.answer_tokens,
            padding_tokens=self.padding_tokens,
        )


def encode_conversations(
    text: Text,
    folder: Path,
    mark: Mark,
    tokenizer: Tokenizer,
    template: ChatTemplate,
    engine: Engine,
    advance: Advance,
    *,
    settings: ChatSettings,
    limit: float,
    shard_tokens: int,
) -> Packed:
    """Write the shards that `mark` does not have yet.

    advance: told the bytes of text of each part that was encoded. limit: conversations whose number is below it are for
    validation. UserError for a template that does not suit the conversations or the tokenizer.
    """
    (folder / FOLDER).mkdir(exist_ok=True)
    found = Packed()
    padding = end_of_text_id(tokenizer)
    dtype = token_dtype(vocabulary_size(tokenizer))
    with shard_writers(folder, mark, dtype=dtype, shard_tokens=shard_tokens, marked=True) as writers:
        for split in SPLITS:
            behind = sum(shard.documents for shard in mark.shards[split])
            tasks = _tasks(text, folder, split, tokenizer, template, settings, limit)
            samples = _samples(engine.map(encode_part, tasks), found, advance, text.num_bytes // max(1, text.parts))
            for number, row in enumerate(pack(samples, row_tokens=settings.sequence_length + 1, padding=padding)):
                found.answer_tokens += int(((row.marks & CONTEXT) == 0).sum())
                if number >= behind:
                    writers[split].extend(row.tokens, [len(row.tokens)], [0], row.marks)
            found.splits[split] = SplitInfo.of(writers[split].close())
    found.padding_tokens = sum(split.tokens for split in found.splits.values()) - found.sample_tokens
    return found


def encode_part(task: ChatTask) -> tuple[Path, Counter[str]]:
    """Encode one part; the file that holds its conversations, and how many were dropped and cut, by why."""
    tokenizer = Tokenizer.from_str(task.tokenizer)
    special = [token.content for token in tokenizer.get_added_tokens_decoder().values() if token.special]
    counts: Counter[str] = Counter()
    samples: list[Encoded] = []
    with ExitStack() as stack:
        writer = stack.enter_context(pa.ipc.new_file(str(task.output), _SCHEMA))
        for texts in read_texts(task.text, task.wanted):
            for one in texts:
                messages: list[Message] = json.loads(one)
                sample = _encode(tokenizer, task, messages, special, counts)
                if sample is not None:
                    samples.append(sample)
                if len(samples) == _BATCH:
                    writer.write_batch(_batch(samples))
                    samples = []
        writer.write_batch(_batch(samples))
    return task.output, counts


def _encode(
    tokenizer: Tokenizer, task: ChatTask, messages: list[Message], special: list[str], counts: Counter[str]
) -> Encoded | None:
    """The conversation's tokens and marks; None where it is dropped, which is counted."""
    if not any(message["role"] == "assistant" for message in messages):
        counts["no-answer"] += 1
        return None
    # A user who writes the token that ends a turn would end it.
    if any(token in message["content"] for message in messages for token in special):
        counts["special-token"] += 1
        return None
    sample = task.template.encode(tokenizer, messages)
    most = task.settings.sequence_length + 1
    if len(sample.tokens) > most:
        if task.settings.too_long == "drop":
            counts["too-long"] += 1
            return None
        counts["cut"] += 1
        sample = Encoded(sample.tokens[-most:], sample.marks[-most:].copy())
        # What begins a sample cannot be predicted from it.
        sample.marks[0] = CONTEXT | FIRST
    if not (sample.marks & CONTEXT == 0).any():
        counts["no-answer"] += 1
        return None
    return sample


def _batch(samples: list[Encoded]) -> Any:
    offsets = pa.array(np.cumsum([0, *(len(sample.tokens) for sample in samples)], dtype=np.int64))
    columns = [
        pa.LargeListArray.from_arrays(offsets, pa.array(np.concatenate([empty, *(sample[i] for sample in samples)])))
        for i, empty in enumerate((np.empty(0, dtype=np.int64), np.empty(0, dtype=np.uint8)))
    ]
    return pa.record_batch(columns, schema=_SCHEMA)


def _tasks(
    text: Text,
    folder: Path,
    split: str,
    tokenizer: Tokenizer,
    template: ChatTemplate,
    settings: ChatSettings,
    limit: float,
) -> Iterator[ChatTask]:
    for part in range(text.parts):
        path, picks, used = text.part(part)
        wanted = used & ((picks < limit) == (split == "validation"))
        output = folder / FOLDER / f"{split}-{part:08d}.arrow"
        yield ChatTask(path, output, tokenizer.to_str(), template, settings, wanted)


def _samples(
    parts: Iterator[tuple[Path, Counter[str]]], found: Packed, advance: Advance, part_bytes: int
) -> Iterator[Encoded]:
    for path, counts in parts:
        found.cut += counts.pop("cut", 0)
        found.drops += counts
        with pa.memory_map(str(path)) as file:
            reader = pa.ipc.open_file(file)
            for i in range(reader.num_record_batches):
                for tokens, marks in zip(*_lists(reader.get_batch(i)), strict=True):
                    found.samples += 1
                    found.sample_tokens += len(tokens)
                    yield Encoded(tokens, marks)
        path.unlink()
        advance(part_bytes // len(SPLITS))


def _lists(batch: Any) -> tuple[list[Any], list[Any]]:
    """The tokens and the marks of a batch, an array for each conversation."""
    bounds = batch.column(0).offsets.to_numpy()[1:-1]
    tokens, marks = (np.split(batch.column(i).values.to_numpy(), bounds) for i in range(2))
    return (tokens, marks) if len(batch) else ([], [])


def require_samples(found: Packed, name: str) -> None:
    """UserError where nothing is left to learn."""
    if not found.splits["train"].tokens:
        dropped = ", ".join(f"{rule} dropped {number}" for rule, number in found.drops.most_common()) or "none dropped"
        raise UserError(
            f"pipeline {name} gives no training samples: {dropped}",
            expected="at least one conversation with an answer that fits into chat.sequence_length",
            fix="check the sources, raise chat.sequence_length or set chat.too_long: cut",
        )
