"""Hashes of what goes up, and which files do."""

from __future__ import annotations

import hashlib
from pathlib import Path

from trainer.data.fetch.upload import PART_BYTES, digest, local_files


def test_digests_of_a_small_file(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"content")
    found = digest(tmp_path / "f")
    assert (found.num_bytes, found.sha256) == (7, hashlib.sha256(b"content").hexdigest())
    assert found.md5 == hashlib.md5(b"content").hexdigest()


def test_the_etag_of_parts_hashes_their_hashes(tmp_path: Path) -> None:
    with (tmp_path / "f").open("wb") as file:
        file.truncate(PART_BYTES + 3)
    parts = hashlib.md5(bytes(PART_BYTES)).digest() + hashlib.md5(bytes(3)).digest()
    assert digest(tmp_path / "f").parts_etag == f"{hashlib.md5(parts).hexdigest()}-2"


def test_hidden_files_and_old_sums_stay(tmp_path: Path) -> None:
    for name in ("a", "b/c", ".hidden", ".fetch/journal.jsonl", "b/.x", "SHA256SUMS", "b/SHA256SUMS"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert list(local_files(tmp_path)) == ["a", "b/SHA256SUMS", "b/c"]
    assert local_files(tmp_path / "a") == {"a": tmp_path / "a"}
