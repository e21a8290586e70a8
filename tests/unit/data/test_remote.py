"""Streaming from a real S3 server, and what goes wrong with one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import boto3
import fsspec
import numpy as np
import pytest
import stamina
from fsspec.implementations.local import LocalFileSystem
from moto.server import ThreadedMotoServer

from trainer.data.config import CacheConfig, Source
from trainer.data.dataset import open_tokens
from trainer.data.inspect import inspect_data
from trainer.data.loader import BatchLoader
from trainer.data.remote import Location, locate
from trainer.errors import UserError
from trainer.storage_errors import StoreUnavailable


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """An S3 server in this process."""
    running = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    running.start()
    host, port = running.get_host_and_port()
    yield f"http://{host}:{port}"
    running.stop()


@pytest.fixture
def s3(server: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[boto3.client]:
    """A bucket `sets` on the server, which the environment points at."""
    for name, value in (
        ("AWS_ENDPOINT_URL", server),
        ("AWS_ACCESS_KEY_ID", "k"),
        ("AWS_SECRET_ACCESS_KEY", "s"),
        ("AWS_DEFAULT_REGION", "us-east-1"),
    ):
        monkeypatch.setenv(name, value)
    # Clients that other tests made for other servers.
    fsspec.get_filesystem_class("s3").clear_instance_cache()
    client = boto3.client("s3")
    client.create_bucket(Bucket="sets")
    yield client
    for entry in client.list_objects_v2(Bucket="sets").get("Contents", ()):
        client.delete_object(Bucket="sets", Key=entry["Key"])
    client.delete_bucket(Bucket="sets")
    client.close()


def upload(client: boto3.client, folder: Path, prefix: str) -> None:
    for path in folder.rglob("*"):
        if path.is_file():
            client.upload_file(str(path), "sets", f"{prefix}/{path.relative_to(folder).as_posix()}")


def test_a_set_in_a_bucket_gives_the_batches_of_the_local_one(s3: boto3.client, tmp_path: Path, write_set) -> None:
    info = write_set(tmp_path / "set", train=[50] * 12, shard_tokens=100)
    upload(s3, tmp_path / "set", "counting")
    shard_bytes = info.splits["train"].shards[0].bytes
    assert shard_bytes is not None
    # Room for four of six shards: the cache has to let go while the run goes on.
    cache = CacheConfig(path=str(tmp_path / "cache"), max_bytes=4 * shard_bytes + 100)
    batches = []
    for path in (str(tmp_path / "set"), "s3://sets/counting"):
        split = open_tokens(Source(path=path), split="train", sequence_length=5, cache=cache)
        options = {"batch_sequences": 8, "sequence_length": 5, "seed": 3, "shuffle_group_bytes": 200, "workers": 2}
        with BatchLoader([split], **options) as loader:
            batches.append(np.stack([next(loader).tokens for _ in range(30)]))
        split.close()
    assert np.array_equal(batches[0], batches[1])
    kept = [entry.stat().st_size for entry in (tmp_path / "cache").iterdir() if entry.is_file()]
    assert 0 < sum(kept) <= cache.max_bytes
    assert inspect_data("s3://sets/counting", verify=True).verified_shards == 6


def test_raw_files_in_a_bucket_are_streamed(s3: boto3.client, tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    np.savez(tmp_path / "raw" / "train_1.npz", a=np.arange(100, dtype=np.uint16))
    np.savez_compressed(tmp_path / "raw" / "train_2.npz", a=np.arange(100, 200, dtype=np.uint16))
    upload(s3, tmp_path / "raw", "raw")
    cache = CacheConfig(path=str(tmp_path / "cache"))
    split = open_tokens(Source(path="s3://sets/raw"), split="train", sequence_length=9, cache=cache)
    out = np.empty((split.num_samples, 10), dtype=np.int64)
    split.read(np.arange(split.num_samples), out)
    split.close()
    assert out[:, 0].tolist() == list(range(0, 190, 9))


def test_a_damaged_shard_in_a_bucket_is_named_with_both_hashes(s3: boto3.client, tmp_path: Path, write_set) -> None:
    info = write_set(tmp_path / "set", train=[50])
    upload(s3, tmp_path / "set", "damaged")
    shard = info.splits["train"].shards[0]
    content = bytearray((tmp_path / "set" / shard.file).read_bytes())
    content[-100] ^= 1
    s3.put_object(Bucket="sets", Key=f"damaged/{shard.file}", Body=bytes(content))
    cache = CacheConfig(path=str(tmp_path / "cache"))
    split = open_tokens(Source(path="s3://sets/damaged"), split="train", sequence_length=5, cache=cache)
    with pytest.raises(UserError, match=rf"s3://sets/damaged/{shard.file} is damaged, twice") as caught:
        split.read(np.array([0]), np.empty((1, 6), dtype=np.int64))
    assert shard.sha256 in str(caught.value)


@pytest.mark.parametrize("path", ["s3://no-such-bucket/set", "s3://sets/no-such-set"])
def test_a_missing_bucket_or_folder_is_the_users_error(s3: boto3.client, path: str) -> None:
    with pytest.raises(UserError, match=f"{path} does not exist"):
        open_tokens(Source(path=path), split="train", sequence_length=5, cache=CacheConfig())


def test_a_place_without_a_name_is_the_users_error() -> None:
    with pytest.raises(UserError, match="an empty path"):
        locate("")
    for url in ("s3://", "s3:///"):
        with pytest.raises(UserError, match=f"{url} names no bucket"):
            locate(url)


def test_refused_access_is_the_users_error(tmp_path: Path) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError("403")

    fs = LocalFileSystem(skip_instance_cache=True)
    fs.info = refuse
    with pytest.raises(UserError, match=r"access to s3://secret is refused \(PermissionError: 403\)"):
        Location(fs, "secret", "s3://secret").info()


def test_secrets_in_an_address_are_not_repeated() -> None:
    class Refusing(LocalFileSystem):
        cachable = False

        def info(self, path: str, **options: object) -> dict[str, object]:
            raise PermissionError(f"403 for {path}")

    url = "https://me:my-password@host/set?sig=my-signature"  # pragma: allowlist secret
    with pytest.raises(UserError, match="access to https://host/set is refused") as caught:
        Location(Refusing(), url, url).info()
    assert "my-" not in str(caught.value)


class Flaky(LocalFileSystem):
    """Fails `failures` times as a network does, then answers."""

    cachable = False
    failures = 2

    def cat_file(self, path: str, start: int | None = None, end: int | None = None, **options: object) -> bytes:
        if self.failures:
            self.failures -= 1
            raise ConnectionResetError("reset")
        return b"answer"


def test_a_passing_failure_is_tried_again_and_a_lasting_one_is_raised() -> None:
    with stamina.set_testing(True, attempts=3):
        assert Location(Flaky(), "x", "s3://x").read() == b"answer"
        lasting = Flaky()
        lasting.failures = 10
        with pytest.raises(StoreUnavailable, match="s3://x: ConnectionResetError: reset"):
            Location(lasting, "x", "s3://x").read()
        assert lasting.failures == 7


def test_schemes_without_a_driver_say_what_to_install() -> None:
    with pytest.raises(UserError, match="nosuch://x"):
        locate("nosuch://x")
