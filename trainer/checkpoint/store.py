"""One door to wherever runs are kept: a local folder or any object store that fsspec knows.

Everything that touches checkpoints goes through `Store`: write-once files with a nonce, streams for big files, listings
that are never cached, errors that name the store and what to do. Attempts, save, load and the CLI call it.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import IO, Any, TypeVar, cast

import fsspec
import stamina

from trainer.durable import discard, full_disk_named, sync, write_atomically
from trainer.errors import UserError
from trainer.storage_errors import EXTRAS, Meaning, StoreUnavailable, clean_url, meaning_of, one_line, patience

T = TypeVar("T")

# A part of a multipart upload: each stream holds one in memory, and S3 allows 10,000 of them (320 GB a file).
PART_BYTES = 32 * 2**20
# What a download asks for at a time, per stream.
PIECE_BYTES = 32 * 2**20
# What an upload reads at a time; the client collects a part of it.
SEND_BYTES = 4 * 2**20
# What link(2) says where there are none: EPERM too, for the folder was just written to.
_NO_LINKS = {errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM}


class AlreadyExists(Exception):
    """A write-once file is there already, with other content than ours."""


class Store:
    """A folder of a file system. Paths are relative to it, with forward slashes."""

    def __init__(self, filesystem: Any, root: str, url: str, *, retry_seconds: float = 30.0) -> None:
        self.filesystem = filesystem
        self.root = root.rstrip("/") or "/"
        self.url = url.rstrip("/")
        self.retry_seconds = retry_seconds
        self.is_local = "file" in _protocols(filesystem)

    @property
    def name(self) -> str:
        """Last part of the store's path: for a run's store, the run's name."""
        return PurePosixPath(self.root).name

    def child(self, path: str) -> Store:
        """The store of a folder below this one."""
        return Store(self.filesystem, self._full(path), f"{self.url}/{path}", retry_seconds=self.retry_seconds)

    def parent(self) -> Store:
        """The store of the folder above this one."""
        url = self.url.rpartition("/")[0]
        return Store(self.filesystem, self.root.rpartition("/")[0], url, retry_seconds=self.retry_seconds)

    def url_of(self, path: str) -> str:
        """Full URL of a path, without secrets."""
        return f"{self.url}/{path}"

    def local_path(self, path: str = "") -> Path:
        """Path on this machine's disk; only for local stores."""
        assert self.is_local, f"{self.url} is not on this machine"
        return Path(self.root, path)

    def exists(self, path: str) -> bool:
        """True if a file is there."""
        return bool(self._call(lambda: self.filesystem.exists(self._full(path)), path))

    def read_bytes(self, path: str, start: int | None = None) -> bytes:
        """A whole (small) file, or what it has from byte `start` on. FileNotFoundError if it is not there."""
        return bytes(self._call(lambda: self.filesystem.cat_file(self._full(path), start=start), path))

    def list_names(self, path: str = "") -> list[str]:
        """Sorted names of files and folders directly below, read afresh; [] if there is nothing."""

        def listing() -> list[str]:
            self.filesystem.invalidate_cache()
            return cast("list[str]", self.filesystem.ls(self._full(path), detail=False))

        try:
            found = self._call(listing, path)
        except FileNotFoundError:
            self.require_root()
            return []
        own = PurePosixPath(self._full(path)).name
        return sorted({PurePosixPath(entry).name for entry in found} - {own, ""})

    def find(self, path: str = "") -> dict[str, int]:
        """Every file at any depth below: path relative to this store -> bytes; {} if there is nothing."""
        if self.is_local:
            return self._find_local(path)

        def walk() -> dict[str, Any]:
            self.filesystem.invalidate_cache()
            return cast("dict[str, Any]", self.filesystem.find(self._full(path), detail=True))

        try:
            found = self._call(walk, path)
        except FileNotFoundError:
            found = {}
        if not found:
            self.require_root()
        prefix = self.root.rstrip("/") + "/"
        return {
            name.lstrip("/").removeprefix(prefix.lstrip("/")): int(entry["size"])
            for name, entry in found.items()
            if not name.endswith("/")
        }

    def write_once(self, path: str, data: bytes) -> None:
        """Create a file whole or not at all; AlreadyExists if another content is there.

        `data` must be unlike anything another writer would write (carry a nonce): a PUT whose answer got lost is sent
        again and then refused because of our own first one, which only the content can tell.
        """
        full = self._full(path)
        write = (lambda: _link_once(Path(full), data)) if self.is_local else (lambda: self._create(full, data))
        try:
            self._call(write, path)
        except FileExistsError as error:
            if self.read_bytes(path) != data:
                raise AlreadyExists(f"{self.url_of(path)} exists already") from error

    def replace(self, path: str, data: bytes) -> None:
        """Write a small file whole, in place of one that may be there; for what has no history, such as run.yaml."""
        full = self._full(path)
        if self.is_local:
            self._call(lambda: write_atomically(Path(full), data, durable=False), path)
        else:
            self._call(lambda: self._put(full, data), path)

    @contextlib.contextmanager
    def open_write(self, path: str) -> Iterator[IO[bytes]]:
        """A stream into a new file, durable once the block ends; an error inside leaves no file behind where it can."""
        with self._explained(path), self._stream(path) as stream:
            yield stream

    def download(self, path: str, target: Path, size_bytes: int) -> str:
        """Copy a file of known size to this machine's disk; its hex sha256, taken on the way.

        Each piece is a request of its own, tried again by itself. A file of another size gives a short or other hash.
        UserError where this machine's disk is full: the store is not to blame, and asking it again does not help.
        """
        digest = hashlib.sha256()
        full = full_disk_named(
            target.parent,
            needs=f"{size_bytes:,} bytes of {self.url_of(path)}",
            fix="make room on that disk, or set checkpoint.local or TMPDIR to a folder on a larger one",
        )
        with full, target.open("wb") as output:
            for start in range(0, size_bytes, PIECE_BYTES):
                piece = self._read_piece(path, start, min(start + PIECE_BYTES, size_bytes))
                digest.update(piece)
                output.write(piece)
        return digest.hexdigest()

    def upload(self, source: Path, path: str, advance: Callable[[int], None]) -> None:
        """Copy a file of this machine's disk into the store, from its start again after what may heal.

        `advance` is told of bytes, and of as many less when they have to be sent again.
        """

        def send() -> None:
            sent_bytes = 0
            try:
                with self._stream(path) as target, source.open("rb") as stream:
                    while piece := stream.read(SEND_BYTES):
                        target.write(piece)
                        sent_bytes += len(piece)
                        advance(len(piece))
            except BaseException:
                advance(-sent_bytes)
                raise

        self._call(send, path)

    def remove(self, path: str) -> None:
        """Delete a file; one that is gone already is fine."""
        with contextlib.suppress(FileNotFoundError):
            self._call(lambda: self.filesystem.rm_file(self._full(path)), path)

    def remove_folder(self, path: str) -> None:
        """Drop an empty folder's entry where folders exist (local disks); object stores have none."""
        if self.is_local:
            with contextlib.suppress(OSError):
                self.local_path(path).rmdir()

    def require_root(self) -> None:
        """UserError if the bucket does not exist. A missing folder in a bucket, or on a disk, is fine."""
        if self.is_local:
            return
        bucket = self.root.lstrip("/").split("/", 1)[0]
        if "memory" in _protocols(self.filesystem):
            return
        try:
            self._patiently(lambda: self.filesystem.ls(bucket))
        except Exception as error:
            if meaning_of(error) is Meaning.MISSING:
                raise self._no_bucket() from error
            raise self._explain(error, "") from error

    def _full(self, path: str) -> str:
        return f"{self.root.rstrip('/')}/{path}" if path else self.root

    @contextlib.contextmanager
    def _stream(self, path: str) -> Iterator[IO[bytes]]:
        if self.is_local:
            with _open_durable(Path(self._full(path))) as stream:
                yield stream
            return
        stream = self.filesystem.open(self._full(path), "wb", block_size=PART_BYTES)
        try:
            yield stream
        except BaseException:
            # fsspec would otherwise complete the upload of half a file when the stream is collected.
            discard(stream)
            raise
        try:
            stream.close()
        except BaseException:
            discard(stream)
            raise

    def _put(self, full: str, data: bytes) -> None:
        self.filesystem.pipe_file(full, data)

    def _create(self, full: str, data: bytes) -> None:
        try:
            self.filesystem.pipe_file(full, data, mode="create")
        except Exception as error:
            if meaning_of(error) is Meaning.EXISTS:
                if not self.filesystem.exists(full):  # S3 says so too while another's write is under way
                    raise TimeoutError(f"{full}: conflicting writes") from error
                raise FileExistsError(full) from error
            if meaning_of(error) is Meaning.MISSING:
                raise self._no_bucket() from error
            raise

    def _read_piece(self, path: str, start: int, stop: int) -> bytes:
        piece = self._call(lambda: self.filesystem.cat_file(self._full(path), start=start, end=stop), path)
        return cast("bytes", piece)

    def _call(self, function: Callable[[], T], path: str) -> T:
        """Run one idempotent request, again while it may heal; then an error that says where."""
        with self._explained(path):
            return self._patiently(function)

    def _patiently(self, function: Callable[[], T]) -> T:
        on = patience(remote=not self.is_local)
        return stamina.retry(on=on, timeout=self.retry_seconds, attempts=None)(function)()

    @contextlib.contextmanager
    def _explained(self, path: str) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            explained = self._explain(error, path)
            if explained is error:
                raise
            raise explained from error

    def _explain(self, error: Exception, path: str) -> Exception:
        """The error to raise instead: what has a meaning for callers or the user, else the error itself."""
        if isinstance(error, UserError | FileExistsError | StoreUnavailable):
            return error
        meaning = meaning_of(error)
        if meaning is Meaning.MISSING:
            return FileNotFoundError(self.url_of(path))
        if meaning is Meaning.REFUSED:
            return UserError(
                f"{self.url_of(path)}: access refused ({one_line(error)})",
                expected="credentials that may list, read, create and delete objects there",
                fix="check the store's credentials (AWS_*, GOOGLE_APPLICATION_CREDENTIALS, AZURE_STORAGE_*, or the "
                "file's owner and mode) and its policy",
            )
        if isinstance(error, NotADirectoryError) or getattr(error, "errno", None) == errno.EROFS:
            return UserError(
                f"{self.url_of(path)}: {one_line(error)}",
                expected="a folder that may be written, below folders",
                fix="correct checkpoint.store, or mount the disk for writing",
            )
        if meaning is Meaning.PASSING:
            return StoreUnavailable(f"{self.url_of(path)}: {one_line(error)}")
        return error

    def _no_bucket(self) -> UserError:
        bucket = self.root.lstrip("/").split("/", 1)[0]
        return UserError(
            f"{self.url}: bucket {bucket!r} does not exist",
            expected="a bucket (container) that exists: buckets are never created by a run",
            fix="create it, or correct checkpoint.store and the endpoint (AWS_ENDPOINT_URL, STORAGE_EMULATOR_HOST)",
        )

    def _find_local(self, path: str) -> dict[str, int]:
        found = {}
        for folder, _, names in os.walk(self._full(path)):
            for name in names:
                file = Path(folder, name)
                with contextlib.suppress(FileNotFoundError):  # deleted while we walk
                    found[file.relative_to(self.root).as_posix()] = file.stat().st_size
        return found


def open_store(url: str, *, retry_seconds: float = 30.0) -> Store:
    """Open a folder or an fsspec URL. No request is made yet.

    UserError for an unknown scheme or a client that is not installed (naming the extra).
    """
    shown = clean_url(url)
    scheme = url.partition("://")[0] if "://" in url else "file"
    if scheme in ("http", "https"):
        raise UserError(
            f"{shown}: a web server cannot be listed",
            expected="a folder, or the URL of an object store such as s3://bucket/folder",
            fix="fetch it first: gpt-run data fetch URL --output FOLDER",
        )
    try:
        filesystem, root = fsspec.core.url_to_fs(url, **_client_options(scheme))
    except ImportError as error:
        extra = EXTRAS.get(scheme)
        fix = f'pip install "gpt-run[{extra}]"' if extra else f"install the fsspec client of {scheme}://"
        raise UserError(f"{shown}: the client for {scheme}:// is not installed", expected=fix, fix=fix) from error
    except ValueError as error:
        known = ", ".join(f"{name}://" for name in ("file", *EXTRAS))
        raise UserError(
            f"{shown}: unknown kind of store ({one_line(error)})",
            expected=f"a folder, or a URL that begins with {known}",
            fix="correct the URL (checkpoint.store in a run file)",
        ) from error
    if scheme == "file":
        root = Path(root).resolve().as_posix()
        shown = root
    return Store(filesystem, root, shown, retry_seconds=retry_seconds)


def open_run(store: str, run: str, *, retry_seconds: float = 30.0) -> Store:
    """The store of one run: `<store>/<run>`."""
    return open_store(store, retry_seconds=retry_seconds).child(run)


def _client_options(scheme: str) -> dict[str, Any]:
    if scheme == "file":
        return {}
    # Instance caching would hand a client with somebody else's listing cache.
    options: dict[str, Any] = {"use_listings_cache": False, "skip_instance_cache": True}
    if scheme in ("s3", "s3a"):
        # A damaged object is for the reader's own hashes to find, as on every other store: an older checkpoint is taken
        # then. This client's error about it looks like a store that fails.
        configured = fsspec.config.conf.get("s3", {}).get("config_kwargs", {})
        options["config_kwargs"] = {**configured, "response_checksum_validation": "when_required"}
    return options


def _link_once(target: Path, data: bytes) -> None:
    """Temporary file, fsync, link: the name appears with all its bytes or not at all; FileExistsError if taken."""
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.{uuid.uuid4().hex}.tmp")
    try:
        with temporary.open("xb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        _link(temporary, target)
        sync(target.parent)
    finally:
        temporary.unlink(missing_ok=True)


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        raise UserError(
            f"{target.parent}: this file system has no hard links ({error.strerror})",
            expected="a disk on which a file can appear whole under a name that nobody has taken",
            fix="keep the store on another file system (SMB and some FUSE mounts have none), or in a bucket",
        ) from error


@contextlib.contextmanager
def _open_durable(target: Path) -> Iterator[IO[bytes]]:
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        with target.open("wb", buffering=0) as stream:
            yield stream
            os.fsync(stream.fileno())
    except BaseException:
        target.unlink(missing_ok=True)
        raise


def _protocols(filesystem: Any) -> tuple[str, ...]:
    protocol = filesystem.protocol
    return (protocol,) if isinstance(protocol, str) else tuple(protocol)
