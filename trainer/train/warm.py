"""What workers of `gpt-run train` are forked from, and what each of them does.

The launcher's fork server imports this module once, so that a new worker has everything imported already.
"""

from __future__ import annotations

import faulthandler
import os
import signal
import sys
from multiprocessing.connection import Connection
from pathlib import Path

# Whether there is a GPU must be asked without initialising CUDA, which no fork could do again.
os.environ.setdefault("PYTORCH_NVML_BASED_CUDA_CHECK", "1")

# Parts of torch that it imports itself only at their first use, which would be each worker's first step.
import torch.distributed.checkpoint
import torch.distributed.fsdp  # noqa: F401

from trainer.elastic.pulse import Pulse
from trainer.elastic.signals import StopSignals
from trainer.elastic.workers import REPORT_FOLDER_VARIABLE, stacks_file
from trainer.parallel.compile import import_dynamo
from trainer.train.worker import run_worker

import_dynamo()


def work(pipe: Connection, reference: str, overrides: tuple[str, ...]) -> int:
    """One rank; RANK and the rest are in the environment. Returns its exit code."""
    signals = StopSignals()
    rank = int(os.environ["RANK"])
    # For the launcher's watchdog: the kernel runs this handler even while a thread holds the interpreter.
    stacks = stacks_file(Path(os.environ[REPORT_FOLDER_VARIABLE]), rank).open("w")
    faulthandler.register(signal.SIGUSR1, file=stacks, all_threads=True)
    code = run_worker(reference, overrides, signals, Pulse(pipe.fileno()))
    sys.stdout.flush()
    sys.stderr.flush()
    return code
