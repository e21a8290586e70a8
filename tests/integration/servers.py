"""Real protocol servers for tests: S3 (versitygw, else moto), GCS (fake-gcs-server) and Azure (azurite).

Each is built or installed once into a cache keyed by its pins, started on a free port of the loopback
interface, and ended with the `with` block. One that cannot be had skips the test and says why.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.cluster.tools import ToolMissing, cache_root, locked, tool

TOOLS = Path(__file__).parent.parent / "tools"
BUCKET = "bucket"
READY_SECONDS = 60
_PORTS = range(20_000, 32_768)


@dataclass(frozen=True)
class Server:
    """A running server: the URL of an empty bucket in it, and the environment by which its clients find it."""

    url: str
    port: int
    environment: dict[str, str] = field(default_factory=dict)


@contextlib.contextmanager
def s3_server(data: Path, *, niceness: int = 0, port: int | None = None) -> Iterator[Server]:
    """versitygw over a folder; moto where Go is missing.

    niceness: how far it gives way to other processes. port: for a server that comes back at the place of one before,
    which finds the objects in the folder again (moto does not).
    """
    port = port or free_port()
    environment = s3_environment(port)
    (data / BUCKET).mkdir(parents=True, exist_ok=True)
    if shutil.which("go") is None:
        command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    else:
        command = [str(go_tool("versitygw")), "--port", f"127.0.0.1:{port}", "posix", str(data)]
    keys = {"ROOT_ACCESS_KEY": "access", "ROOT_SECRET_KEY": "secret-key"}  # pragma: allowlist secret
    with running(["nice", "-n", str(niceness), *command], port, data / "server.log", keys):
        if shutil.which("go") is None:
            make_bucket("s3", environment)
        yield Server(f"s3://{BUCKET}", port, environment)


@contextlib.contextmanager
def gcs_server(data: Path) -> Iterator[Server]:
    """fake-gcs-server in memory."""
    port = free_port()
    address = f"127.0.0.1:{port}"
    command = [str(go_tool("fake-gcs-server")), "-scheme", "http", "-host", "127.0.0.1", "-port", str(port)]
    command += ["-backend", "memory", "-public-host", address, "-external-url", f"http://{address}"]
    environment = {"STORAGE_EMULATOR_HOST": f"http://{address}"}
    with running(command, port, data / "server.log"):
        make_bucket("gs", environment)
        yield Server(f"gs://{BUCKET}", port, environment)


@contextlib.contextmanager
def azure_server(data: Path) -> Iterator[Server]:
    """azurite in memory, with its well-known development account."""
    port = free_port()
    script = npm_tool() / "node_modules" / "azurite" / "dist" / "src" / "blob" / "main.js"
    command = ["node", str(script), "--blobHost", "127.0.0.1", "--blobPort", str(port), "--inMemoryPersistence"]
    environment = azure_environment(port)
    with running([*command, "--skipApiVersionCheck", "--silent"], port, data / "server.log"):
        make_bucket("az", environment)
        yield Server(f"az://{BUCKET}", port, environment)


def s3_environment(port: int) -> dict[str, str]:
    """What s3fs reads; without a region and a profile of whoever runs the tests."""
    return {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_ACCESS_KEY_ID": "access",
        "AWS_SECRET_ACCESS_KEY": "secret-key",  # pragma: allowlist secret
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_CONFIG_FILE": "/dev/null",
        "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
    }


def azure_environment(port: int) -> dict[str, str]:
    """What adlfs reads. The key is azurite's published one."""
    key = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
    endpoint = f"http://127.0.0.1:{port}/devstoreaccount1"
    parts = ["DefaultEndpointsProtocol=http", "AccountName=devstoreaccount1", f"AccountKey={key}"]
    return {"AZURE_STORAGE_CONNECTION_STRING": ";".join([*parts, f"BlobEndpoint={endpoint}", ""])}


def make_bucket(scheme: str, environment: dict[str, str]) -> None:
    """Create the bucket in a process of its own, whose client sees only the server's environment."""
    code = f"import fsspec; fsspec.filesystem({scheme!r}).mkdir({BUCKET!r})"
    subprocess.run([sys.executable, "-c", code], env=os.environ | environment, check=True, timeout=60)


def go_tool(name: str) -> Path:
    """A program of `tests.cluster.tools`, built once. Skips the test where it cannot be built."""
    try:
        return tool(name)
    except ToolMissing as missing:
        pytest.skip(str(missing))


def npm_tool() -> Path:
    """Folder with the node_modules of tests/tools/package.json. Skips the test where it cannot be had."""
    if shutil.which("npm") is None:
        pytest.skip("no npm, which brings azurite and Grafana's types")
    folder = cache_folder("package.json")
    with locked(folder / "lock"):
        if not (folder / "complete").exists():
            shutil.copy(TOOLS / "package.json", folder)
            command = ["npm", "install", "--no-package-lock", "--ignore-scripts", "--no-audit", "--no-fund"]
            built(command, "tests/tools/package.json", cwd=folder)
            (folder / "complete").touch()
    return folder


def built(command: list[str], name: str, *, cwd: Path, environment: dict[str, str] | None = None) -> None:
    """Run a build; a failure skips the test with its last line."""
    settings = os.environ | (environment or {})
    result = subprocess.run(command, cwd=cwd, env=settings, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        reason = (result.stderr.strip() or result.stdout.strip() or "no output").splitlines()[-1]
        pytest.skip(f"{name} cannot be built: {reason}")


def cache_folder(*pins: str) -> Path:
    """Where tools of these pins are kept between runs."""
    digest = hashlib.sha256(b"".join((TOOLS / pin).read_bytes() for pin in pins)).hexdigest()[:16]
    folder = cache_root() / "tools" / digest
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@contextlib.contextmanager
def running(command: list[str], port: int, log: Path, environment: dict[str, str] | None = None) -> Iterator[None]:
    """Start a server and wait until its port answers; end it with the block."""
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, env=os.environ | (environment or {}))
    try:
        deadline = time.monotonic() + READY_SECONDS
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                break
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{command[0]} did not start: {log.read_text(errors='replace')[-500:]}")
            time.sleep(0.05)
        yield
    finally:
        process.terminate()
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def free_port() -> int:
    """A port that was free a moment ago, below those that the kernel gives to connections (from 32768 on): it stays
    free while a server is away for a while."""
    while True:
        port = _PORTS.start + secrets.randbelow(len(_PORTS))
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
            return port
