"""Files that nobody can open until they are released."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.faults.leases import Leases


def test_who_opens_a_file_waits_until_it_is_released(tmp_path: Path) -> None:
    (tmp_path / "held").write_text("held")
    (tmp_path / "free").write_text("free")
    leases = Leases()
    leases.take([tmp_path / "held"])
    program = "import sys; [print(open(name).read(), flush=True) for name in sys.argv[1:]]"
    reader = subprocess.Popen(
        [sys.executable, "-c", program, "free", "held"], cwd=tmp_path, stdout=subprocess.PIPE, text=True
    )
    assert reader.stdout is not None
    with reader:
        assert reader.stdout.readline() == "free\n"
        while not leases.asked():
            assert reader.poll() is None
            time.sleep(0.01)
        leases.release()
        assert reader.stdout.read() == "held\n"


def test_a_file_that_is_open_cannot_be_kept(tmp_path: Path) -> None:
    (tmp_path / "open").write_text("open")
    leases = Leases()
    with (tmp_path / "open").open(), pytest.raises(BlockingIOError):
        leases.take([tmp_path / "open"])
    leases.release()
