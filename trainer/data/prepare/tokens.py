"""Preparation of tokens that are ready: their files become shards, checked against the tokenizer that made them.

One process: copying waits on the disk, not on a core. A shard ends with a whole row, so an interrupted copy goes on
behind the rows that finished shards hold.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from trainer.data.output import Mark, shard_writers, write_mark
from trainer.data.prepare.pipeline import TokenPipeline
from trainer.data.progress import progress
from trainer.data.shards import TOKENIZER_FILE, SplitInfo, Tokens, token_dtype
from trainer.data.sources.token_files import Splits, TokenFiles, check_vocabulary, token_rows
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
    # Listed once: the answer of a bucket takes its time.
    sources = [(source, source.splits()) for source in pipeline.sources]
    for _, files in sources:
        check_vocabulary(files, size)
    total = sum(file.num_bytes for _, files in sources for members in files.values() for file in members)
    splits = {}
    writing = shard_writers(folder, mark, dtype=token_dtype(size), shard_tokens=pipeline.shard_tokens)
    with progress("copying tokens", total) as advance, writing as writers:
        for split, writer in writers.items():
            behind = sum(shard.documents for shard in mark.shards[split])
            for number, row in enumerate(_rows(sources, split, end, size)):
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


def _rows(sources: Sequence[tuple[TokenFiles, Splits]], split: str, end: int, size: int) -> Iterator[Tokens]:
    for source, files in sources:
        yield from token_rows(files.get(split, ()), source.cache, eos_id=end, vocab_size=size)
