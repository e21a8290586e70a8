"""The last stage: cleaned text becomes tokens, part by part on all cores, and these become shards in one order.

Workers encode parts into files; this process appends their documents to the shards, part after part. A shard ends at a
whole document, so finished shards tell where an interrupted preparation goes on.
"""

from __future__ import annotations

import functools
import pickle
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from trainer.data.output import SPLITS, Mark, write_mark
from trainer.data.prepare.cleaned import read_texts
from trainer.data.prepare.engine import Engine
from trainer.data.prepare.text import Text
from trainer.data.progress import Advance
from trainer.data.shards import TOKENIZER_FILE, ShardInfo, ShardWriter, SplitInfo, token_dtype
from trainer.data.tokenizer import end_of_text_id, load_tokenizer, vocabulary_size
from trainer.data.tokenizers.encoder import Encoder
from trainer.durable import durable_rename

# Less text is encoded before a faster engine is proven right.
FAST_BYTES = 50_000_000
# Tokens of parts on their way into shards.
FOLDER = ".prepare.tokens"


class EncodeTask(NamedTuple):
    """One part to encode into one file."""

    text: Path
    output: Path
    encoder: bytes
    """Pickled: a worker keeps it for its later tasks."""
    train: npt.NDArray[np.bool_]
    """Its documents that are used for training."""
    validation: npt.NDArray[np.bool_]


def encode(
    text: Text, folder: Path, mark: Mark, engine: Engine, advance: Advance, *, limit: float, shard_tokens: int
) -> dict[str, SplitInfo]:
    """Write the shards that `mark` does not have yet. limit: documents whose number is below it are for validation.

    advance: told the bytes of text of each part that was encoded.
    """
    tokenizer = load_tokenizer(folder / TOKENIZER_FILE)
    dtype, end = token_dtype(vocabulary_size(tokenizer)), end_of_text_id(tokenizer)
    (folder / FOLDER).mkdir(exist_ok=True)
    with ExitStack() as stack:
        writers = {
            split: stack.enter_context(
                ShardWriter(folder, split, dtype=dtype, shard_tokens=shard_tokens, after=mark.shards[split])
            )
            for split in SPLITS
        }
        encoder = Encoder(tokenizer, "auto" if text.num_bytes >= FAST_BYTES else "tokenizers")
        for path in engine.map(encode_part, _tasks(text, folder, mark.shards, limit, pickle.dumps(encoder))):
            part_bytes = 0
            for split, tokens, text_bytes in _documents(path):
                writer = writers[split]
                writer.add(np.append(tokens, tokens.dtype.type(end)), text_bytes)
                part_bytes += text_bytes
                if writer.num_finished > len(mark.shards[split]):
                    mark = mark.model_copy(update={"shards": {**mark.shards, split: writer.finished}})
                    write_mark(folder, mark)
            path.unlink()
            advance(part_bytes)
        return {split: SplitInfo.of(writer.close()) for split, writer in writers.items()}


def encode_part(task: EncodeTask) -> Path:
    """Encode one part; the file that holds its tokens."""
    encoder = _encoder(task.encoder)
    temporary = task.output.with_name(f".{task.output.name}.part")
    writer: Any = None
    used = task.train | task.validation
    is_validation = task.validation[used]
    start = 0
    with ExitStack() as stack:
        for texts in read_texts(task.text, used):
            rows = encoder.encode_batch(texts)
            ends = np.cumsum([0, *map(len, rows)], dtype=np.int64)
            columns = [
                pa.LargeListArray.from_arrays(pa.array(ends), pa.array(np.concatenate(rows))),
                pa.array([len(text.encode()) for text in texts], pa.int64()),
                pa.array(is_validation[start : start + len(texts)]),
            ]
            start += len(texts)
            batch = pa.record_batch(columns, names=["tokens", "text_bytes", "validation"])
            if writer is None:
                writer = stack.enter_context(pa.ipc.new_file(str(temporary), batch.schema))
            writer.write_batch(batch)
    durable_rename(temporary, task.output)
    return task.output


def _tasks(
    text: Text, folder: Path, finished: dict[str, tuple[ShardInfo, ...]], limit: float, encoder: bytes
) -> Iterator[EncodeTask]:
    """The parts with documents that no finished shard holds: a shard ends with a whole one, their order is fixed."""
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
            yield EncodeTask(path, output, encoder, masks["train"], masks["validation"])


def _documents(path: Path) -> Iterator[tuple[str, npt.NDArray[Any], int]]:
    """(split, tokens, bytes of text) of each document of an encoded part."""
    with pa.memory_map(str(path)) as file:
        reader = pa.ipc.open_file(file)
        for i in range(reader.num_record_batches):
            batch = reader.get_batch(i)
            offsets = batch.column(0).offsets.to_numpy()
            tokens = batch.column(0).values.to_numpy()
            sizes, validation = batch.column(1).to_numpy(), batch.column(2).to_pylist()
            for place, is_validation in enumerate(validation):
                split = "validation" if is_validation else "train"
                yield split, tokens[offsets[place] : offsets[place + 1]], int(sizes[place])


@functools.lru_cache(maxsize=1)
def _encoder(pickled: bytes) -> Encoder:
    found: Encoder = pickle.loads(pickled)  # noqa: S301  # our own driver's
    return found
