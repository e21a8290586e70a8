"""An even sample of documents, in bounded memory, the same whatever order they come in.

Called by `trainer.data.tokenizers.pipeline`. Every document has a place that the hash of its text and the seed decide;
the sample is what comes first, up to a number of bytes. So it does not depend on the order in which documents are read
or on who reads them, samples of parts are merged into that of the whole, and a document that is there twice counts
once.
"""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Iterator


class Sample:
    """Keeps the first documents by place; `add` all of them, then iterate."""

    def __init__(self, max_bytes: int, seed: int) -> None:
        """The sample ends with the document that reaches `max_bytes` of UTF-8, so it may be longer by that document."""
        self._max_bytes, self._seed = max_bytes, seed
        self._bytes = 0
        # The largest place first; text as bytes, whose size is known and half that of most strings.
        self._heap: list[tuple[int, bytes]] = []
        self._places: set[int] = set()

    @property
    def num_bytes(self) -> int:
        """Bytes of UTF-8 in the sample."""
        return self._bytes

    def add(self, text: str) -> None:
        """Offer a document."""
        # JSON can hold halves of surrogate pairs, which no tokenizer takes.
        content = text.encode(errors="replace")
        digest = hashlib.sha256(b"%d\n" % self._seed + content).digest()
        self._offer(int.from_bytes(digest[:16], "big"), content)

    def merge(self, other: Sample) -> None:
        """Offer the documents of a sample with the same seed."""
        assert self._seed == other._seed
        for place, content in other._heap:
            self._offer(-place, content)

    def __iter__(self) -> Iterator[str]:
        """The documents in the order of their places."""
        for _, content in sorted(self._heap, reverse=True):
            yield content.decode()

    def _offer(self, place: int, content: bytes) -> None:
        if place in self._places or (self._bytes >= self._max_bytes and place > -self._heap[0][0]):
            return
        heapq.heappush(self._heap, (-place, content))
        self._places.add(place)
        self._bytes += len(content)
        while self._bytes - len(self._heap[0][1]) >= self._max_bytes:
            dropped, content = heapq.heappop(self._heap)
            self._places.remove(-dropped)
            self._bytes -= len(content)
