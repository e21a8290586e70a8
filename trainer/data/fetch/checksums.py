"""Hashes of files, and the checksum files that list them (GNU and BSD style; md5, sha1, sha256, sha512).

`listing` reads the list that a user gives or that lies in a remote folder; `landing` and `upload` write SHA256SUMS.
Hashes guard against accidents here, so that md5 and sha1 will do where a publisher gives nothing better.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from trainer.errors import UserError

SUMS_FILE = "SHA256SUMS"
BLOCK_BYTES = 2**20

_ALGORITHM_OF_DIGITS = {32: "md5", 40: "sha1", 64: "sha256", 128: "sha512"}
_GNU_LINE = re.compile(r"(?P<escaped>\\?)(?P<digest>[0-9a-fA-F]{32,128}) [ *](?P<name>.+)")
_BSD_LINE = re.compile(r"(?:MD5|SHA1|SHA256|SHA512) ?\((?P<name>.+)\) ?= ?(?P<digest>[0-9a-fA-F]{32,128})")
# How GNU writes names that would break a line; such a line begins with a backslash.
_ESCAPED = {"\\": "\\\\", "\n": "\\n", "\r": "\\r"}
_UNESCAPED = {escape: character for character, escape in _ESCAPED.items()}


@dataclass(frozen=True)
class Hash:
    """A known hash: the algorithm's name in hashlib, and the digest in lower-case hex."""

    algorithm: str
    digest: str

    def __str__(self) -> str:
        return f"{self.algorithm} {self.digest}"


class Checksums:
    """The content of a checksum file."""

    def __init__(self, hashes: Mapping[str, Hash], where: str) -> None:
        self.where = where
        self._hashes = dict(hashes)
        self._names_by_last_part: dict[str, list[str]] = {}
        for name in self._hashes:
            self._names_by_last_part.setdefault(_last_part(name), []).append(name)

    def of(self, name: str) -> Hash | None:
        """The hash of a file: by its path, else by the only line that ends like it, or that it ends like."""
        if name in self._hashes:
            return self._hashes[name]
        alike = self._names_by_last_part.get(_last_part(name), [])
        fitting = [listed for listed in alike if name.endswith(f"/{listed}") or listed.endswith(f"/{name}")]
        return self._hashes[fitting[0]] if len(fitting) == 1 else None

    def items(self) -> Iterable[tuple[str, Hash]]:
        """Names and hashes, as they are in the file."""
        return self._hashes.items()


def parse(text: str, where: str) -> Checksums:
    """Read a checksum file; `where` names it in errors. Raises UserError with the line that is none."""
    hashes = {}
    for number, line in enumerate(text.split("\n"), 1):
        line = line.removesuffix("\r")
        if not line.strip() or line.startswith("#"):
            continue
        match = _GNU_LINE.fullmatch(line) or _BSD_LINE.fullmatch(line.strip())
        digest = match["digest"].lower() if match else ""
        algorithm = _ALGORITHM_OF_DIGITS.get(len(digest))
        if match is None or algorithm is None:
            raise UserError(
                f"{where}, line {number}: {line[:120]!r} is not a checksum",
                expected="lines of `HEX  NAME` or `SHA256 (NAME) = HEX` with an md5, sha1, sha256 or sha512",
                fix="correct the checksum file, or leave it out",
            )
        name = match["name"]
        if "escaped" in match.groupdict() and match["escaped"]:
            name = re.sub(r"\\[nr\\]", lambda found: _UNESCAPED[found[0]], name)
        hashes[name.removeprefix("./")] = Hash(algorithm, digest)
    return Checksums(hashes, where)


def render(sha256s: Mapping[str, str]) -> str:
    """SHA256SUMS of these names, as `sha256sum -c` reads it."""
    lines = []
    for name, digest in sorted(sha256s.items()):
        escaped = re.sub(r"[\n\r\\]", lambda found: _ESCAPED[found[0]], name)
        mark = "" if escaped == name else "\\"
        lines.append(f"{mark}{digest}  {escaped}\n")
    return "".join(lines)


def hash_file(path: Path, algorithms: Iterable[str] = ("sha256",)) -> dict[str, str]:
    """Hex digests of a file by algorithm, read once."""
    hashers = {name: hashlib.new(name, usedforsecurity=False) for name in {*algorithms}}
    with path.open("rb") as file:
        while block := file.read(BLOCK_BYTES):
            for hasher in hashers.values():
                hasher.update(block)
    return {name: hasher.hexdigest() for name, hasher in hashers.items()}


def _last_part(name: str) -> str:
    return name.rsplit("/", 1)[-1]
