"""Text of any size out of that of this Python installation: paragraphs in seeded random order, one JSON object a line.

Used by the benchmarks that run preparation. Three quarters of the documents are prose, the others of any kind, which
rules of quality mostly drop. Every tenth document nearly repeats the one before, and every fiftieth repeats it exactly.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from trainer.data.corpus import help_topics, library_files

DOCUMENT_CHARACTERS = 3000
PROSE_SHARE = 0.75
NEAR_EVERY = 10
EXACT_EVERY = 50
# Signs of code in a paragraph, and words that are all letters among those of prose.
_CODE = re.compile(r"[{}=_<>|\\]|\(\)")
_LETTERS_SHARE = 0.7


def write_jsonl(folder: Path, num_bytes: float, *, file_bytes: float = 50e6, seed: int = 1) -> int:
    """Write text-NNN.jsonl, each of about `file_bytes` of text; returns the bytes of all texts, in UTF-8."""
    written = total = 0
    texts = documents(seed)
    while total < num_bytes:
        with (folder / f"text-{written:03d}.jsonl").open("w", encoding="utf-8") as file:
            written, size = written + 1, 0
            for text in texts:
                file.write(json.dumps({"text": text}) + "\n")
                size += len(text.encode())
                if size >= min(file_bytes, num_bytes - total):
                    break
        total += size
    return total


def documents(seed: int) -> Iterator[str]:
    """Texts without end."""
    generator = random.Random(seed)
    prose, every = _paragraphs()
    number, text = 0, ""
    while True:
        number += 1
        if text and number % EXACT_EVERY == 0:
            yield text
        elif text and number % NEAR_EVERY == 0:
            yield f"{text} It was seen {generator.randrange(10**9)} times."
        else:
            kind = prose if generator.random() < PROSE_SHARE else every
            pieces: list[str] = []
            while sum(map(len, pieces)) < DOCUMENT_CHARACTERS:
                pieces += generator.choices(kind, k=4)
            text = "\n\n".join(pieces)
            yield text


@cache
def _paragraphs() -> tuple[list[str], list[str]]:
    """Paragraphs of prose, each as one line, and paragraphs of all kinds."""
    texts = [path.read_text(encoding="utf-8", errors="replace") for _, path in library_files()]
    every = [part for text in texts for part in text.split("\n\n") if 80 < len(part) < 1500]
    candidates = [*every, *(part for _, topic in help_topics() for part in topic.split("\n\n"))]
    prose = [" ".join(part.split()) for part in candidates if _is_prose(part)]
    return prose, every


def _is_prose(paragraph: str) -> bool:
    words = paragraph.split()
    letters = sum(map(str.isalpha, words))
    return (
        len(words) > 12
        and paragraph.rstrip().endswith((".", "?", "!"))
        and letters > _LETTERS_SHARE * len(words)
        and not _CODE.search(paragraph)
    )
