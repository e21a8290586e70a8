"""The real command, killed at any moment and run again until it is through; and a disk that fills up."""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import fsspec
import pytest

from tests.integration.data.troubled_web import Manner, TroubledWeb
from tests.integration.proxy import Proxy
from tests.integration.servers import Server
from trainer.data.fetch.config import FetchConfig
from trainer.data.fetch.listing import Wanted
from trainer.data.fetch.report import Report
from trainer.data.fetch.run import fetch
from trainer.data.fetch.upload import PART_BYTES
from trainer.errors import UserError

MIB = 2**20
COMMAND = [sys.executable, "-m", "trainer", "data", "fetch"]
RNG = random.Random(11)
FILES = {
    "large.bin": RNG.randbytes(14 * MIB),
    **{f"part-{number}/text {number}.bin": RNG.randbytes(number * 300_000) for number in range(8)},
}


@contextmanager
def started(arguments: list[str], **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(
        [*COMMAND, *arguments], env=os.environ | environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def again(source: str, output: Path | str) -> Report:
    """The same fetch, in this process: it takes up what a killed one left as any other process would."""
    return fetch(Wanted((source,)), str(output), FetchConfig())


def wait_for(condition: Callable[[], bool], process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert process.poll() is None, process.communicate()[1].decode()
        assert time.monotonic() < deadline
        time.sleep(0.02)


def assert_only_whole_files(folder: Path) -> None:
    for path in folder.rglob("*"):
        if path.is_file() and ".fetch" not in path.parts and path.name != "SHA256SUMS":
            assert path.read_bytes() == FILES[path.relative_to(folder).as_posix()], path


def assert_complete(folder: Path) -> None:
    assert all((folder / name).is_file() for name in FILES)
    assert len((folder / "SHA256SUMS").read_text().splitlines()) == len(FILES)
    subprocess.run(["sha256sum", "--check", "--strict", "--quiet", "SHA256SUMS"], cwd=folder, check=True)


def test_killed_at_any_moment_it_gets_through_with_equal_bytes(web: TroubledWeb, tmp_path: Path) -> None:
    for name, content in FILES.items():
        web.put(f"/data/{name}", content, Manner(bytes_per_second=2e6))
    arguments = [f"{web.url}/data/", "--output", str(tmp_path / "out"), "--streams", "4"]
    for number in range(3):
        with started(arguments) as process:
            if number > 0:  # the first one may also be killed while it starts
                wait_for(lambda: web.sent_bytes > 0, process)
            time.sleep(RNG.uniform(0.1, 2.5))
            process.send_signal(RNG.choice([signal.SIGKILL, signal.SIGTERM, signal.SIGINT]))
            process.wait(timeout=30)
        assert_only_whole_files(tmp_path / "out")
        if (tmp_path / "out" / "SHA256SUMS").exists():  # killed between its last step and its exit
            assert_complete(tmp_path / "out")
    report = again(f"{web.url}/data/", tmp_path / "out")
    assert (report.exit_code, {outcome.name for outcome in report.files}) == (0, {*FILES})
    assert_only_whole_files(tmp_path / "out")
    assert_complete(tmp_path / "out")
    assert list((tmp_path / "out" / ".fetch" / "parts").iterdir()) == []


def records(folder: Path) -> list[Path]:
    return list((folder / ".fetch" / "parts").glob("*.json"))


@pytest.fixture
def server(start_server: Callable[[str], Server], monkeypatch: pytest.MonkeyPatch) -> Server:
    """An S3 server, and what its clients need, here and in processes that are started."""
    started = start_server("s3")
    for name, value in started.environment.items():
        monkeypatch.setenv(name, value)
    return started


def test_a_killed_download_from_a_bucket_goes_on_unless_the_object_changed(server: Server, tmp_path: Path) -> None:
    first, second = FILES["large.bin"], bytes(reversed(FILES["large.bin"]))
    fs, source = fsspec.filesystem("s3", skip_instance_cache=True), f"{server.url}/killed/x.bin"
    fs.pipe_file("bucket/killed/x.bin", first)
    with started([source, "--output", str(tmp_path / "out"), "--bytes-per-second", "4e6"]) as process:
        wait_for(lambda: bool(records(tmp_path / "out")), process)
    covered = json.loads(records(tmp_path / "out")[0].read_text())["covered"]
    assert 0 < sum(stop - start for start, stop in covered) < len(first)
    shutil.copytree(tmp_path / "out", tmp_path / "copy")
    assert again(source, tmp_path / "out").exit_code == 0
    assert (tmp_path / "out" / "x.bin").read_bytes() == first
    fs.pipe_file("bucket/killed/x.bin", second)
    assert again(source, tmp_path / "copy").exit_code == 0
    assert (tmp_path / "copy" / "x.bin").read_bytes() == second


def test_a_killed_upload_shows_nothing_until_it_is_through(server: Server, tmp_path: Path) -> None:
    proxy = Proxy(server.port)
    content = RNG.randbytes(PART_BYTES + MIB)
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "x.bin").write_bytes(content)
    source, target = str(tmp_path / "source"), f"{server.url}/up"
    proxy.hold("partNumber=2")
    with started([source, "--output", target], AWS_ENDPOINT_URL=f"http://127.0.0.1:{proxy.port}") as process:
        wait_for(lambda: proxy.held > 0, process)
    proxy.release()
    with pytest.raises(UserError, match="/up: nothing is there"):
        again(target, tmp_path / "none")
    assert again(source, target).exit_code == 0
    proxy.close()
    assert again(target, tmp_path / "down").exit_code == 0
    assert (tmp_path / "down" / "x.bin").read_bytes() == content
    assert hashlib.sha256(content).hexdigest() in (tmp_path / "down" / "SHA256SUMS").read_text()


def test_a_full_disk_is_named_and_what_came_is_kept(web: TroubledWeb, tmp_path: Path) -> None:
    if subprocess.run(["unshare", "--map-root-user", "--mount", "true"], capture_output=True, check=False).returncode:
        pytest.skip("no namespaces for a small disk of its own")
    urls = [web.put("/small", b"x" * 1000), web.put("/x.bin", FILES["large.bin"], Manner(ranges=False))]
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = 'mount -t tmpfs -o size=3m none "$0" && "$@"; code=$?; ls -R -A "$0"; exit $code'
    fetch = [*COMMAND, *urls, "--output", str(disk), "--streams", "1"]
    result = subprocess.run(
        ["unshare", "--map-root-user", "--mount", "sh", "-c", mount, str(disk), *fetch],
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 2, result.stderr
    assert f"error: {disk}: No space left on device" in result.stderr
    assert "room for x.bin" in result.stderr
    listing = result.stdout.split()
    assert "small" in listing
    assert "x.bin" not in listing
    assert "SHA256SUMS" not in listing


def test_what_cannot_fit_is_refused_before_it_is_fetched(tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    with (tmp_path / "source" / "huge").open("wb") as file:
        file.truncate(8 * 10**12)
    with pytest.raises(UserError) as caught:
        again(str(tmp_path / "source"), tmp_path / "out")
    assert caught.value.expected == "room for all files"
