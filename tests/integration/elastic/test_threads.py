"""Workers of one machine share its cores."""

from __future__ import annotations

import os
import subprocess
import sys

from tests.integration.training import ROOT

PROGRAM = """
import os, sys
os.environ.pop("OMP_NUM_THREADS", None)
os.cpu_count = lambda: 2
from trainer.elastic.forks import Forks
if __name__ == "__main__":
    forks = Forks("torch", processes=2)
    process = forks.start("x", "torch:get_num_threads", {})
    process.join()
    sys.exit(process.exitcode)
"""


def test_each_worker_gets_its_part_of_the_cores(tmp_path: object) -> None:
    environment = {key: value for key, value in os.environ.items() if key != "OMP_NUM_THREADS"}
    command = [sys.executable, "-c", PROGRAM]
    result = subprocess.run(command, env={**environment, "PYTHONPATH": str(ROOT)}, cwd=str(tmp_path), check=False)
    assert result.returncode == 1
