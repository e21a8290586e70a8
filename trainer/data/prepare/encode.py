"""The last stage: cleaned text becomes tokens, part by part on all cores, and these become shards in one order.

Workers encode parts into files; this process appends their documents to the shards, part after part. A shard ends at a
whole document, so finished shards tell where an interrupted preparation goes on.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from trainer.data.output import Mark, shard_writers
from trainer.data.prepare.cleaned import read_texts
from trainer.data.prepare.engine import Engine
from trainer.data.prepare.text import Text
from trainer.data.progress import Advance
from trainer.data.shards import TOKENIZER_FILE, ShardInfo, SplitInfo, token_dtype
from trainer.data.tokenizer import end_of_text_id, load_tokenizer, tokenizer_fingerprint, vocabulary_size
from trainer.data.tokenizers.encoder import Choice, Encoder

# Tokens of parts on their way into shards.
FOLDER = ".prepare.tokens"


class EncodeTask(NamedTuple):
    """One part to encode into one file."""

    text: Path
    output: Path
    tokenizer: Path
    """Its tokenizer.json, which a worker reads once: in each task it would be megabytes."""
    fingerprint: str
    """That tokenizer's."""
    choice: Choice
    """Of the engine."""
    end: int
    """The end-of-text token, which follows every document."""
    train: npt.NDArray[np.bool_]
    """Its documents that are used for training."""
    validation: npt.NDArray[np.bool_]


def encode(
    text: Text,
    folder: Path,
    mark: Mark,
    encoder: Encoder,
    engine: Engine,
    advance: Advance,
    *,
    limit: float,
    shard_tokens: int,
) -> dict[str, SplitInfo]:
    """Write the shards that `mark` does not have yet. The encoder's tokenizer.json lies in `folder`.

    advance: told the bytes of text of each part that was encoded. limit: documents whose number is below it are for
    validation.
    """
    dtype = token_dtype(vocabulary_size(encoder.tokenizer))
    (folder / FOLDER).mkdir(exist_ok=True)
    with shard_writers(folder, mark, dtype=dtype, shard_tokens=shard_tokens) as writers:
        for path in engine.map(encode_part, _tasks(text, folder, mark.shards, limit, encoder)):
            part_bytes = 0
            for split, tokens, lengths, text_bytes in _read_encoded(path):
                writers[split].extend(tokens, lengths, text_bytes)
                part_bytes += int(text_bytes.sum())
            path.unlink()
            advance(part_bytes)
        return {split: SplitInfo.of(writer.close()) for split, writer in writers.items()}


def encode_part(task: EncodeTask) -> Path:
    """Encode one part; the file that holds its tokens."""
    encoder = _encoder(task.tokenizer, task.fingerprint, task.choice)
    temporary = task.output.with_name(f".{task.output.name}.part")
    writer: Any = None
    used = task.train | task.validation
    is_validation = task.validation[used]
    start = 0
    with ExitStack() as stack:
        for texts in read_texts(task.text, used):
            flags = is_validation[start : start + len(texts)]
            start += len(texts)
            # Each split's documents lie together, in their order.
            places = np.argsort(flags, kind="stable")
            batch = _batch([texts[i] for i in places], flags[places], encoder, task.end)
            if writer is None:
                writer = stack.enter_context(pa.ipc.new_file(str(temporary), batch.schema))
            writer.write_batch(batch)
    # Need not outlive a power cut: what no finished shard holds is encoded again.
    temporary.replace(task.output)
    return task.output


def _batch(texts: Sequence[str], is_validation: npt.NDArray[np.bool_], encoder: Encoder, end: int) -> Any:
    """The record batch of a few texts."""
    rows = encoder.encode_batch(texts)
    end_row = np.array([end], dtype=rows[0].dtype)
    offsets = np.cumsum([0, *(len(row) + 1 for row in rows)], dtype=np.int64)
    tokens = np.concatenate([piece for row in rows for piece in (row, end_row)])
    sizes = [len(text) if text.isascii() else len(text.encode()) for text in texts]
    columns = [
        pa.LargeListArray.from_arrays(pa.array(offsets), pa.array(tokens)),
        pa.array(sizes, pa.int64()),
        pa.array(is_validation),
    ]
    return pa.record_batch(columns, names=["tokens", "text_bytes", "validation"])


def _tasks(
    text: Text, folder: Path, finished: dict[str, tuple[ShardInfo, ...]], limit: float, encoder: Encoder
) -> Iterator[EncodeTask]:
    """The parts with documents that no finished shard holds: a shard ends with a whole one, their order is fixed."""
    tokenizer, end = folder / TOKENIZER_FILE, end_of_text_id(encoder.tokenizer)
    fingerprint = tokenizer_fingerprint(encoder.tokenizer)
    behind = {split: sum(shard.documents for shard in shards) for split, shards in finished.items()}
    for part in range(text.parts):
        path, picks, used = text.part(part)
        masks = {"validation": used & (picks < limit), "train": used & (picks >= limit)}
        for split, mask in masks.items():
            places = np.flatnonzero(mask)
            mask[places[: behind[split]]] = False
            behind[split] -= min(behind[split], len(places))
        if any(mask.any() for mask in masks.values()):
            output = folder / FOLDER / f"{part:08d}.arrow"
            train, validation = masks["train"], masks["validation"]
            yield EncodeTask(path, output, tokenizer, fingerprint, encoder.choice, end, train, validation)


def _read_encoded(path: Path) -> Iterator[tuple[str, npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[Any]]]:
    """(split, tokens end to end, lengths, bytes of text) of runs of documents of an encoded part."""
    with pa.memory_map(str(path)) as file:
        reader = pa.ipc.open_file(file)
        for i in range(reader.num_record_batches):
            batch = reader.get_batch(i)
            offsets, tokens = batch.column(0).offsets.to_numpy(), batch.column(0).values.to_numpy()
            sizes, num_train = batch.column(1).to_numpy(), len(batch) - batch.column(2).true_count
            for split, first, last in (("train", 0, num_train), ("validation", num_train, len(batch))):
                if first < last:
                    run = slice(offsets[first], offsets[last])
                    yield split, tokens[run], np.diff(offsets[first : last + 1]), sizes[first:last]


@functools.lru_cache(maxsize=1)
def _encoder(tokenizer: Path, fingerprint: str, choice: Choice) -> Encoder:
    """`fingerprint` tells one tokenizer at this path from the next."""
    loaded = load_tokenizer(tokenizer)
    assert tokenizer_fingerprint(loaded) == fingerprint, "tokenizer.json stays while its shards are written"
    return Encoder(loaded, choice)
