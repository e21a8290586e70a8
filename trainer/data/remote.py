"""One view of local folders and object stores: locate, list, read, download; with the errors a user can act on.

Used by `dataset`, `formats`, `cache` and `tokenizer`. What the user has to mend (access refused for a while, a driver
that is not installed) becomes a UserError; what may heal by itself is retried with growing pauses for RETRY_SECONDS,
then becomes a StoreUnavailable, so that the run ends with a failure that may be tried again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import stamina
from fsspec.core import url_to_fs
from fsspec.implementations.local import LocalFileSystem

from trainer.errors import UserError
from trainer.storage_errors import EXTRAS, Meaning, StoreUnavailable, clean_url, meaning_of, one_line, patience

RETRY_SECONDS = 120.0
RETRY_ATTEMPTS = 10
# The first of these that a store gives. A time comes last: two changes within its resolution look alike.
_VERSION_KEYS = ("generation", "ETag", "etag", "blob_id", "LastModified", "last_modified", "mtime", "created")

Entry = dict[str, Any]
Result = TypeVar("Result")


@dataclass(frozen=True)
class Location:
    """A file or folder on some file system; `url` is what the user wrote, for messages."""

    fs: Any
    path: str
    url: str

    @property
    def local(self) -> Path | None:
        """The path on this machine, or None for a remote location."""
        return Path(self.path) if isinstance(self.fs, LocalFileSystem) else None

    @property
    def name(self) -> str:
        """Last part of the path."""
        return self.path.rstrip("/").rsplit("/", 1)[-1]

    def join(self, name: str) -> Location:
        """The location `name` below this folder."""
        return Location(self.fs, f"{self.path.rstrip('/')}/{name}", f"{self.url.rstrip('/')}/{name}")

    def sibling(self, name: str) -> Location:
        """The location `name` in the folder of this file."""
        own = len(self.name)
        return Location(self.fs, f"{self.path.rstrip('/')[:-own]}{name}", f"{self.url.rstrip('/')[:-own]}{name}")

    def info(self) -> dict[str, Any] | None:
        """Size, type and the store's own mark of this version, or None where nothing exists."""
        try:
            return self.call(lambda: dict(self.fs.info(self.path)))
        except (FileNotFoundError, NotADirectoryError):
            return None

    def version(self) -> str:
        """The store's mark of this version of the file: changes when the file does."""
        return self.call(lambda: str(self.fs.ukey(self.path)))

    def find(self) -> dict[str, Entry]:
        """What the store says of all files below this folder, by path in it; {} where there is no such folder."""
        self.fs.invalidate_cache(self.path)
        try:
            found = self.call(lambda: self.fs.find(self.path, detail=True))
        except FileNotFoundError:
            return {}
        root = self.path.strip("/") + "/"
        return {path.strip("/").removeprefix(root): entry for path, entry in _files(found).items()}

    def glob(self) -> dict[str, Entry]:
        """What the store says of the files that match this path as a pattern, by path."""
        return _files(self.call(lambda: self.fs.glob(self.path, detail=True)))

    def files(self) -> list[Location]:
        """The files below this folder, folder by folder; hidden ones are left out."""
        names = [name for name in self.find() if not is_hidden(name)]
        return [self.join(name) for name in sorted(names, key=lambda name: name.split("/"))]

    def file_sizes(self) -> dict[str, int]:
        """Bytes of the files directly in this folder, by name; {} where there is no such folder."""
        self.fs.invalidate_cache(self.path)
        try:
            entries = self.call(lambda: self.fs.ls(self.path, detail=True))
        except FileNotFoundError:
            return {}
        files = _files({str(entry["name"]): entry for entry in entries})
        return {path.rstrip("/").rsplit("/", 1)[-1]: int(entry["size"]) for path, entry in files.items()}

    def read(self, start: int | None = None, end: int | None = None) -> bytes:
        """Content of the file, or its bytes [start, end)."""
        return self.call(lambda: bytes(self.fs.cat_file(self.path, start=start, end=end)))

    def open(self) -> Any:
        """A seekable binary file for reading headers."""
        return self.call(lambda: self.fs.open(self.path, "rb"))

    def download(self, target: Path) -> None:
        """Copy the file to `target`, which is overwritten."""
        self.call(lambda: self.fs.get_file(self.path, str(target)))

    def call(self, work: Callable[[], Result]) -> Result:
        """Do something idempotent with `fs`: tried again where that may help, with the errors that callers act on."""
        try:
            on = patience(remote=self.local is None)
            return stamina.retry(on=on, attempts=RETRY_ATTEMPTS, timeout=RETRY_SECONDS)(work)()
        except Exception as error:
            meaning = meaning_of(error)
            if meaning is Meaning.MISSING:
                raise FileNotFoundError(clean_url(self.url)) from error
            if meaning is Meaning.REFUSED:
                raise UserError(
                    f"access to {clean_url(self.url)} is refused ({one_line(error)})",
                    expected="a location that these credentials may list and read",
                    fix="check the bucket's name and this process's credentials, or the file's owner and mode",
                ) from error
            if meaning is Meaning.PASSING:
                raise StoreUnavailable(f"{clean_url(self.url)}: {one_line(error)}") from error
            raise


def is_hidden(name: str) -> bool:
    """Whether a part of a path begins with a dot."""
    return any(part.startswith(".") for part in name.split("/"))


def version_of(entry: Mapping[str, Any]) -> str | None:
    """The mark in a store's entry of a file that tells its versions apart; on a disk the time of its last change."""
    return next((str(entry[key]) for key in _VERSION_KEYS if entry.get(key) is not None), None)


def locate(url: str) -> Location:
    """Find the file system of a path or URL.

    Raises UserError for nothing, for an unknown scheme, a driver that is missing, or a URL without a bucket.
    """
    if not url:
        raise UserError("an empty path", expected="a path or a URL", fix="name it; a variable may be unset")
    scheme = url.split("://", 1)[0] if "://" in url else "file"
    try:
        fs, path = url_to_fs(url)
    except ImportError as error:
        extra = EXTRAS.get(scheme)
        package = f"gpt-run[{extra}]" if extra else f"the fsspec driver for {scheme}://"
        raise UserError(
            f"{clean_url(url)}: {error}",
            expected=f"an installed driver for {scheme}://",
            fix=f"pip install '{package}'",
        ) from error
    except ValueError as error:
        raise UserError(
            f"{clean_url(url)}: {error}",
            expected="a local path or a URL such as s3://bucket/folder, gs://bucket/folder, abfs://container/folder",
            fix="correct the scheme of the path",
        ) from error
    if scheme in EXTRAS and not str(path).strip("/"):
        raise UserError(f"{url} names no bucket", expected=f"{scheme}://BUCKET/FOLDER", fix="add the bucket's name")
    return Location(fs, str(path), url)


def _files(entries: dict[str, Entry]) -> dict[str, Entry]:
    """The files of a listing, by path. Stores also list empty objects `FOLDER/`, disks what is neither."""
    files = {}
    for path, entry in sorted(entries.items()):
        if entry.get("islink"):  # what matters is the file behind it
            entry = entry | {"type": "file" if Path(path).is_file() else "other"}
        if entry["type"] == "file" and not path.endswith("/"):
            files[path] = entry
    return files
