"""Preparation of tokens that are ready: their files become shards, checked against the tokenizer that made them.

One process: copying waits on the disk, not on a core. A shard ends with a whole row, so an interrupted copy goes on
behind the rows that finished shards hold.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from trainer.data.output import SPLITS, Mark, write_mark
from trainer.data.prepare.pipeline import TokenPipeline
from trainer.data.progress import progress
from trainer.data.shards import TOKENIZER_FILE, ShardInfo, ShardWriter, SplitInfo, Tokens, token_dtype
from trainer.data.sources.token_files import check_vocabulary, token_rows
from trainer.data.tokenizer import end_of_text_id, tokenizer_fingerprint, vocabulary_size
from trainer.data.tokenizers.config import load_tokenizer_spec
from trainer.durable import write_atomically
from trainer.errors import UserError


def copy_tokens(pipeline: TokenPipeline, folder: Path, mark: Mark) -> dict[str, SplitInfo]:
    """Write tokenizer.json and the shards that `mark` does not have yet.

    Raises UserError for an id that the tokenizer does not have, with the file, and where there are no training tokens.
    """
    tokenizer = load_tokenizer_spec(pipeline.tokenizer)
    write_atomically(folder / TOKENIZER_FILE, tokenizer.to_str(pretty=True).encode())
    mark = mark.model_copy(update={"tokenizer_fingerprint": tokenizer_fingerprint(tokenizer)})
    write_mark(folder, mark)
    end, size = end_of_text_id(tokenizer), vocabulary_size(tokenizer)
    for source in pipeline.sources:
        check_vocabulary(source, size)
    finished = dict(mark.shards)

    def note(split: str, shards: tuple[ShardInfo, ...]) -> None:
        finished[split] = shards
        write_mark(folder, mark.model_copy(update={"shards": dict(finished)}))

    splits = {}
    with (
        progress("copying tokens", sum(source.num_bytes() for source in pipeline.sources)) as advance,
        ExitStack() as stack,
    ):
        for split in SPLITS:
            writer = stack.enter_context(
                ShardWriter(
                    folder,
                    split,
                    dtype=token_dtype(size),
                    shard_tokens=pipeline.shard_tokens,
                    after=mark.shards[split],
                    on_finish=partial(note, split),
                )
            )
            behind = sum(shard.documents for shard in mark.shards[split])
            for number, row in enumerate(_rows(pipeline, split, end, size)):
                advance(row.nbytes)
                if number >= behind:
                    # What the text behind the tokens measured nobody knows.
                    writer.add(row, text_bytes=0)
            splits[split] = SplitInfo.of(writer.close())
    if not splits["train"].tokens:
        raise UserError(
            f"pipeline {pipeline.name} gives no training tokens: all files have `val` in their names",
            expected="at least one file of training tokens",
            fix="correct `path` of the tokens sources",
        )
    return splits


def _rows(pipeline: TokenPipeline, split: str, end: int, size: int) -> Iterator[Tokens]:
    for source in pipeline.sources:
        yield from token_rows(source, split, eos_id=end, vocab_size=size)
