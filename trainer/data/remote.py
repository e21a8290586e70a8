"""One view of local folders and object stores: locate, list, read, download; with the errors a user can act on.

Used by `dataset`, `formats`, `cache` and `tokenizer`. What the user has to mend (access refused, a driver that is not
installed) becomes a UserError at once; what may heal by itself is retried with growing pauses for RETRY_SECONDS, then
raised as it is, so that the run ends with a failure that may be tried again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import stamina
from fsspec.core import url_to_fs
from fsspec.implementations.local import LocalFileSystem

from trainer.errors import UserError
from trainer.storage_errors import EXTRAS, Meaning, clean_url, may_heal, meaning_of, one_line

RETRY_SECONDS = 120.0
RETRY_ATTEMPTS = 10

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
            return self._call(lambda: dict(self.fs.info(self.path)))
        except (FileNotFoundError, NotADirectoryError):
            return None

    def version(self) -> str:
        """The store's mark of this version of the file: changes when the file does."""
        return self._call(lambda: str(self.fs.ukey(self.path)))

    def files(self) -> list[Location]:
        """Files directly in this folder, by name."""
        return [self.join(name) for name in self.file_sizes()]

    def file_sizes(self) -> dict[str, int]:
        """Bytes of the files directly in this folder, by name; {} where there is no such folder."""
        self.fs.invalidate_cache(self.path)
        try:
            entries = self._call(lambda: self.fs.ls(self.path, detail=True))
        except FileNotFoundError:
            return {}
        # A listing tells of a symbolic link; what matters is the file behind it.
        entries = [self.fs.info(entry["name"]) if entry.get("islink") else entry for entry in entries]
        files = {str(entry["name"]): int(entry["size"]) for entry in entries if entry["type"] == "file"}
        return {name.rstrip("/").rsplit("/", 1)[-1]: files[name] for name in sorted(files)}

    def read(self, start: int | None = None, end: int | None = None) -> bytes:
        """Content of the file, or its bytes [start, end)."""
        return self._call(lambda: bytes(self.fs.cat_file(self.path, start=start, end=end)))

    def open(self) -> Any:
        """A seekable binary file for reading headers."""
        return self._call(lambda: self.fs.open(self.path, "rb"))

    def download(self, target: Path) -> None:
        """Copy the file to `target`, which is overwritten."""
        self._call(lambda: self.fs.get_file(self.path, str(target)))

    def _call(self, work: Callable[[], Result]) -> Result:
        try:
            return stamina.retry(on=may_heal, attempts=RETRY_ATTEMPTS, timeout=RETRY_SECONDS)(work)()
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
            raise


def locate(url: str) -> Location:
    """Find the file system of a path or URL. Raises UserError for an unknown scheme or a driver that is missing."""
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
    return Location(fs, str(path), url)
