"""From sources to names and hashes, on this machine's disk."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import zipfile
from pathlib import Path

import pytest

from trainer.data.fetch.checksums import Hash
from trainer.data.fetch.config import FetchConfig
from trainer.data.fetch.listing import Item, Wanted, expand
from trainer.data.fetch.retry import Retry
from trainer.data.fetch.web import Web
from trainer.errors import UserError


def items_of(wanted: Wanted, config: FetchConfig | None = None) -> list[Item]:
    config = config or FetchConfig()

    async def run() -> list[Item]:
        async with Web(config) as web:
            return await expand(wanted, config, web, Retry(1.0))

    return asyncio.run(run())


def names_of(wanted: Wanted, config: FetchConfig | None = None) -> list[str]:
    return [item.name for item in items_of(wanted, config)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("a.txt", "b/c.txt", "b/.hidden", ".fetch/parts/x.part"):
        (tmp_path / "data" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "data" / name).write_text(name)
    return tmp_path / "data"


def test_folders_keep_their_nesting_and_hidden_files_stay(folder: Path) -> None:
    assert names_of(Wanted((str(folder),))) == ["a.txt", "b/c.txt"]
    assert names_of(Wanted((f"{folder}/",)), FetchConfig(exclude=("a*",))) == ["b/c.txt"]
    assert names_of(Wanted((str(folder / "b" / "c.txt"),))) == ["c.txt"]


def test_sums_in_a_folder_are_expected_and_not_fetched(folder: Path) -> None:
    digest = hashlib.sha256(b"a.txt").hexdigest()
    (folder / "SHA256SUMS").write_text(f"{digest}  a.txt\n")
    assert {item.name: item.expected for item in items_of(Wanted((str(folder),)))} == {
        "a.txt": Hash("sha256", digest),
        "b/c.txt": None,
    }


def test_given_sums_come_first(folder: Path, tmp_path: Path) -> None:
    (folder / "SHA256SUMS").write_text(f"{'1' * 64}  a.txt\n")
    (tmp_path / "md5").write_text(f"{'2' * 32}  c.txt\n{'3' * 32}  a.txt\n")
    found = items_of(Wanted((str(folder),), checksums=str(tmp_path / "md5")))
    assert [item.expected for item in found] == [Hash("md5", "3" * 32), Hash("md5", "2" * 32)]


def test_a_list_names_urls_and_paths_below_a_base(tmp_path: Path) -> None:
    text = "# crawl\nhttps://h/x/one.gz\n\nhttps://h/y/one.gz   other name.gz\nhttps://b/r/deep/two%20.gz\nz/three.gz\n"
    (tmp_path / "list").write_text(text)
    found = items_of(Wanted(lists=(str(tmp_path / "list"),), base="https://b/r"))
    assert [(item.name, item.remote.url) for item in found] == [
        ("one.gz", "https://h/x/one.gz"),
        ("other name.gz", "https://h/y/one.gz"),
        ("deep/two .gz", "https://b/r/deep/two%20.gz"),
        ("z/three.gz", "https://b/r/z/three.gz"),
    ]


def test_a_packed_list_is_unpacked(tmp_path: Path) -> None:
    (tmp_path / "paths.gz").write_bytes(gzip.compress(b"a/b.warc.gz\n"))
    assert names_of(Wanted(lists=(str(tmp_path / "paths.gz"),), base="https://h/")) == ["a/b.warc.gz"]
    (tmp_path / "paths.gz").write_bytes(gzip.compress(b"a/b.warc.gz\n")[:-6])
    with pytest.raises(UserError, match=r"paths.gz: not a text"):
        names_of(Wanted(lists=(str(tmp_path / "paths.gz"),), base="https://h/"))


def test_mirrors_stand_in(tmp_path: Path) -> None:
    (tmp_path / "list").write_text("https://www.gutenberg.org/cache/epub/1/pg1.txt\n")
    config = FetchConfig(mirrors={"https://www.gutenberg.org/": "http://mirror.example/pg/"})
    (item,) = items_of(Wanted(lists=(str(tmp_path / "list"),)), config)
    assert item.remote.url == "http://mirror.example/pg/cache/epub/1/pg1.txt"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("a/b.gz\n", "line 1: 'a/b.gz' is a path"),
        ("https://h/a/1\nhttps://h/b/1\n", "'1' is there twice"),
        ("https://h/a/1 ../1\n", "'../1' cannot be stored"),
        ("https://h/a/\n", "'' cannot be stored"),
        ("# nothing\n", "nothing to fetch"),
    ],
)
def test_lists_that_cannot_be_stored_are_refused(text: str, found: str, tmp_path: Path) -> None:
    (tmp_path / "list").write_text(text)
    with pytest.raises(UserError) as caught:
        items_of(Wanted(lists=(str(tmp_path / "list"),)))
    assert found in caught.value.found


@pytest.mark.parametrize("packed", [True, False])
def test_a_list_is_read_no_further_than_a_list_can_be(
    packed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Packed, a line of zeros is a thousandth of itself."""
    monkeypatch.setattr("trainer.data.fetch.listing.PAGE_BYTES", 10_000)
    text = b"x" * 2_000_000
    (tmp_path / "list").write_bytes(gzip.compress(text) if packed else text)
    with pytest.raises(UserError, match="more than 10,000 bytes"):
        items_of(Wanted(lists=(str(tmp_path / "list"),), base="https://h/"))


def test_sums_in_a_folder_are_read_no_further_either(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trainer.data.fetch.listing.PAGE_BYTES", 10_000)
    (folder / "SHA256SUMS").write_bytes(b"#" * 20_000)
    with pytest.raises(UserError, match="more than 10,000 bytes"):
        items_of(Wanted((str(folder),)))


def test_names_inside_an_archive_cannot_lead_out(tmp_path: Path) -> None:
    """fsspec opens archives as folders; what they call their members is theirs to say."""
    with zipfile.ZipFile(tmp_path / "data.zip", "w") as archive:
        archive.writestr("../../escaped.txt", "x")
    with pytest.raises(UserError) as caught:
        names_of(Wanted((f"zip://::file://{tmp_path}/data.zip",)))
    assert "cannot be stored under its name" in caught.value.found
