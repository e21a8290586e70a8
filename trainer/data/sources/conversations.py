"""Conversations for `task: sft`: files of JSON lines, one conversation each; plain or gz, bz2, xz, zst.

A line holds `messages`, a list of {role, content}, or `prompt` and `completion`. What does not fit is the user's to put
right and ends the preparation, with the file and the line: a set of a few thousand examples is looked at, not filtered.
Documents carry the messages as JSON (`trainer.data.prepare.conversations` reads it).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Literal

from trainer.data.chat import read_messages
from trainer.data.sources.base import Document, Part, document
from trainer.data.sources.files import FileSource, at, cut
from trainer.data.sources.records import Record, records
from trainer.data.sources.streams import chunks, compression_of, open_stored
from trainer.errors import UserError
from trainer.storage_errors import clean_url


class Conversations(FileSource):
    """Files of one JSON object per line, one conversation each."""

    type: Literal["conversations"]

    def parts(self) -> list[Part]:
        return cut(self.files(), lambda file: compression_of(file.url) is None, self.part_bytes)

    def read_file(self, url: str, part: Part) -> Iterator[Document]:
        with open_stored(url) as file:
            for record in records(file, part, b"\n", self.max_document_bytes):
                if record.content is None:
                    raise _refused(url, record, f"a line of {record.num_bytes} bytes; max_document_bytes is smaller")
                if not record.content.strip():
                    continue
                try:
                    messages = read_messages(json.loads(record.content.decode()))
                except (ValueError, RecursionError) as error:
                    raise _refused(url, record, str(error)) from error
                yield document(at(url, record.offset), json.dumps(messages, ensure_ascii=False))


def _refused(url: str, record: Record, problem: str) -> UserError:
    with open_stored(url) as file:
        line, read = 1, 0
        for _, piece in chunks(file):
            line += piece[: max(0, record.offset - read)].count(b"\n")
            read += len(piece)
            if read >= record.offset:
                break
    return UserError(
        f"{clean_url(url)}:{line}: {problem}",
        expected='one JSON object a line: {"messages": [{"role": "user", "content": "..."}, ...]}, or a prompt and a '
        "completion",
        fix="correct or remove the line",
    )
