"""Virtual environments of the peers that benchmarks compare with: made once each from pinned requirements, and kept.

Requirements lie in benchmarks/peers/NAME.txt, compiled from NAME.in. After a change of one:

    uv pip compile --universal --python-version 3.11 --no-annotate --no-header --no-emit-index-url \
        --no-emit-find-links benchmarks/peers/NAME.in --output-file benchmarks/peers/NAME.txt

torch and what it brings are pinned to the versions of constraints.txt: uv links files from its cache, so that every
environment on its file system shares the one copy on disk.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

from tests.cluster.tools import cache_root, locked

PINS = Path(__file__).with_name("peers")


class PeerMissing(Exception):
    """A peer's environment cannot be made on this machine; the message is the installer's."""


def peer_python(name: str) -> Path:
    """The interpreter of the environment of peers/NAME.txt; installs it at the first use. Raises PeerMissing."""
    pins = PINS / f"{name}.txt"
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    key = hashlib.sha256(pins.read_bytes() + version.encode()).hexdigest()[:16]
    folder = cache_root() / "peers" / name / key
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder / "lock"):
        if not (folder / "complete").exists():
            install(folder / "venv", ["--requirement", str(pins)])
            (folder / "complete").touch()
    return folder / "venv" / "bin" / "python"


def install(venv: Path, arguments: list[str]) -> None:
    """A new virtual environment of this Python, with what `uv pip install` is told. Raises PeerMissing."""
    python = venv / "bin" / "python"
    make = [uv(), "venv", "--quiet", "--clear", "--python", sys.executable, str(venv)]
    fill = [uv(), "pip", "install", "--quiet", "--python", str(python), *arguments]
    for command in (make, fill):
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        if result.returncode != 0:
            raise PeerMissing(" ".join(result.stderr.split())[-400:])


def uv() -> str:
    """The program: where `make` puts it, else the one on PATH."""
    beside = Path(sys.executable).with_name("uv")
    return str(beside) if beside.exists() else "uv"
