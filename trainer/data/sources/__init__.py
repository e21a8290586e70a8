"""Sources of text for preparation, picked by `type` in a pipeline's YAML; one module per kind.

A source is a settings class that lists its `parts`, reads each as documents, and tells by its `fingerprint` whether the
inputs changed (`base.Source`). A new kind is one class and one name in `TextSource`. Tokens that are ready are no text:
`trainer.data.sources.token_files`.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from trainer.data.sources.base import Document, Fault, Part, Problem, Source
from trainer.data.sources.common_crawl import CommonCrawl
from trainer.data.sources.conversations import Conversations
from trainer.data.sources.gutenberg import Gutenberg
from trainer.data.sources.hugging_face import HuggingFace
from trainer.data.sources.jsonl import JsonLines
from trainer.data.sources.parquet import Parquet
from trainer.data.sources.python_docstrings import PythonDocstrings, PythonQuestions
from trainer.data.sources.python_library import PythonLibrary
from trainer.data.sources.text_files import TextFiles
from trainer.data.sources.wikipedia import Wikipedia

__all__ = [
    "ChatSource",
    "CommonCrawl",
    "Conversations",
    "Document",
    "Fault",
    "Gutenberg",
    "HuggingFace",
    "JsonLines",
    "Parquet",
    "Part",
    "Problem",
    "PythonDocstrings",
    "PythonLibrary",
    "PythonQuestions",
    "Source",
    "TextFiles",
    "TextSource",
    "Wikipedia",
]

TextSource = Annotated[
    PythonLibrary
    | TextFiles
    | Wikipedia
    | Gutenberg
    | JsonLines
    | CommonCrawl
    | Parquet
    | HuggingFace
    | PythonDocstrings,
    Field(discriminator="type"),
]
# Documents of these are conversations, as JSON.
ChatSource = Annotated[Conversations | PythonQuestions, Field(discriminator="type")]
