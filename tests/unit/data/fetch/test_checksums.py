"""Checksum files as the tools of GNU and BSD write them."""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.data.fetch.checksums import BLOCK_BYTES, Hash, hash_file, parse, render
from trainer.errors import UserError

MD5, SHA1, SHA256, SHA512 = (name * length for name, length in (("a", 32), ("b", 40), ("c", 64), ("d", 128)))
names = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1)


def test_all_styles_and_algorithms_are_read() -> None:
    lines = [
        "# made by hand",
        f"{MD5}  plain.txt",
        f"{SHA1} *binary.bin",
        f"{SHA256.upper()}  ./folder/name with spaces",
        f"SHA512 (bsd.gz) = {SHA512}",
        "",
    ]
    sums = parse("\n".join(lines), "SUMS")
    assert dict(sums.items()) == {
        "plain.txt": Hash("md5", MD5),
        "binary.bin": Hash("sha1", SHA1),
        "folder/name with spaces": Hash("sha256", SHA256),
        "bsd.gz": Hash("sha512", SHA512),
    }


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("a/x", Hash("md5", MD5)),
        ("y", Hash("sha256", SHA256)),
        ("any/where/z", Hash("sha512", SHA512)),
        ("x", None),
        ("c/x", None),
        ("c/y", None),
        ("zz", None),
    ],
)
def test_a_name_is_found_by_its_path_or_by_the_only_end_that_fits(name: str, found: Hash | None) -> None:
    assert parse(f"{MD5}  a/x\n{SHA1}  b/x\n{SHA256}  b/y\n{SHA512}  z\n", "SUMS").of(name) == found


@pytest.mark.parametrize("line", ["<html>", f"{MD5}", f"{'a' * 33}  odd", "SHA256 (x) = 12"])
def test_a_line_that_is_no_checksum_is_named(line: str) -> None:
    with pytest.raises(UserError, match=r"SUMS, line 2: .* is not a checksum"):
        parse(f"{MD5}  first\n{line}\n", "SUMS")


@given(st.dictionaries(names.filter(lambda name: not name.startswith("./")), st.just(SHA256)))
def test_what_is_written_is_read_again(sums: dict[str, str]) -> None:
    assert {name: known.digest for name, known in parse(render(sums), "SUMS").items()} == sums


def test_coreutils_agree(tmp_path: Path) -> None:
    awkward = ["plain", "with space", "new\nline", "back\\slash", "carriage\rreturn"]
    for name in awkward:
        (tmp_path / name).write_text(name)
    sums = {name: hash_file(tmp_path / name)["sha256"] for name in awkward}
    (tmp_path / "SHA256SUMS").write_text(render(sums))
    subprocess.run(["sha256sum", "--check", "--strict", "--quiet", "SHA256SUMS"], cwd=tmp_path, check=True)


def test_several_hashes_are_taken_in_one_reading(tmp_path: Path) -> None:
    content = bytes(range(256)) * (BLOCK_BYTES // 256) + b"tail"
    (tmp_path / "f").write_bytes(content)
    assert hash_file(tmp_path / "f", ["sha256", "md5", "sha256"]) == {
        "sha256": hashlib.sha256(content).hexdigest(),
        "md5": hashlib.md5(content).hexdigest(),
    }
