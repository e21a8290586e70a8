"""The programs `prometheus` and `promtool`, for tests of rules, dashboards and exporters.

They are those on PATH, else Debian's or Ubuntu's package, unpacked once into the user's cache: nothing is installed, no
service starts, and no root is needed. Where neither can be had, the test is skipped with the reason.

    python -m tests.tools.prometheus      fetch them if need be, and print where they lie
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.cluster.tools import ToolMissing, cache_root, locked, say

PACKAGE = "prometheus"
# Rules keep to what this version understands; Debian 12 has it.
OLDEST = (2, 42)


@dataclass(frozen=True)
class Programs:
    """Where they lie."""

    prometheus: Path
    promtool: Path


def prometheus_programs() -> Programs:
    """Both programs; a test that asks for them is skipped where they cannot be had."""
    try:
        return find_programs()
    except ToolMissing as missing:
        pytest.skip(str(missing))


def find_programs() -> Programs:
    """Both programs, from PATH, the cache or the package. Raises ToolMissing with the reason."""
    installed = shutil.which("prometheus"), shutil.which("promtool")
    if installed[0] and installed[1] and _version(installed[0]) >= OLDEST:
        return Programs(Path(installed[0]), Path(installed[1]))
    folder = cache_root() / "tools" / "debian"
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder / f"{PACKAGE}.lock"):
        kept = folder / PACKAGE
        if not kept.is_dir():
            _unpack_package(kept)
    found = Programs(kept / "usr" / "bin" / "prometheus", kept / "usr" / "bin" / "promtool")
    if _version(str(found.prometheus)) < OLDEST:
        raise ToolMissing(f"prometheus: this system's package is older than {'.'.join(map(str, OLDEST))}")
    return found


def _unpack_package(target: Path) -> None:
    """Download the package and unpack it, in one step, so that a killed one leaves no half of it."""
    for program in ("apt-get", "dpkg-deb"):
        if shutil.which(program) is None:
            raise ToolMissing(f"prometheus: not on PATH, and no {program} to unpack the system's package with")
    say(f"fetching the package {PACKAGE}")
    with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
        folder = Path(scratch)
        _download(folder)
        (package,) = folder.glob("*.deb")
        _run(folder, "dpkg-deb", "--extract", str(package), "unpacked")
        (folder / "unpacked").rename(target)


def _download(folder: Path) -> None:
    """Into this folder; with lists of packages of our own where the system has none."""
    try:
        _run(folder, "apt-get", "download", PACKAGE)
    except ToolMissing:
        lists = folder / "lists"
        (lists / "partial").mkdir(parents=True)
        own = [f"--option=Dir::State::lists={lists}", f"--option=Dir::Cache={folder}"]
        # The lists lie in a folder that apt's own user may not read.
        own.append("--option=APT::Sandbox::User=")
        _run(folder, "apt-get", "update", "--quiet=2", *own)
        _run(folder, "apt-get", "download", *own, PACKAGE)


def _run(folder: Path, *command: str) -> str:
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        lines = (result.stderr.strip() or result.stdout.strip() or "no output").splitlines()
        raise ToolMissing(f"prometheus: `{' '.join(command[:2])}` failed: {lines[-1]}")
    return result.stdout


def _version(program: str) -> tuple[int, int]:
    found = re.search(r"version (\d+)\.(\d+)", _run(Path.cwd(), program, "--version"))
    if found is None:
        raise ToolMissing(f"{program}: says no version")
    return int(found[1]), int(found[2])


if __name__ == "__main__":
    try:
        print(*vars(find_programs()).values(), sep="\n")
    except ToolMissing as error:
        sys.exit(str(error))
