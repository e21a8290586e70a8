"""What elasticity adds to each step: the flags that all ranks share, and the word to the launcher.

    python -m benchmarks.step_overhead [--json]

Two ranks on this machine run the train loop's own agreement and pulse, thousands of times; the launcher's end of the
pipe is read as a launcher does. Bar: below 0.5% of a step of 100 ms.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from multiprocessing import get_context
from multiprocessing.connection import Connection
from types import SimpleNamespace
from typing import Any, cast

import torch
import torch.distributed as dist

from benchmarks.common import hardware
from tests.integration.servers import free_port
from trainer.elastic.pulse import Pulse, PulseReader
from trainer.train.loop import Run, agree

STEP_SECONDS = 0.1
BAR_RATIO = 0.005
RANKS = 2
STEPS = 5000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    as_json = parser.parse_args().json
    seconds = measure()
    result = {
        "bar_ratio": BAR_RATIO,
        "step_seconds": STEP_SECONDS,
        "seconds": seconds,
        "ratio": seconds / STEP_SECONDS,
        "hardware": hardware(),
    }
    line = f"{seconds * 1e6:.0f} us a step, {result['ratio']:.2%} of {STEP_SECONDS:g} s (bar {BAR_RATIO:.1%})"
    print(json.dumps(result) if as_json else line)


def measure() -> float:
    """Seconds per step on the slowest rank."""
    context = get_context("spawn")
    port = free_port()
    ranks: list[tuple[Any, Connection, Connection]] = []
    for rank in range(RANKS):
        told, telling = context.Pipe(duplex=False)
        answer, answering = context.Pipe(duplex=False)
        process = context.Process(target=one_rank, args=(rank, port, telling, answering))
        process.start()
        telling.close()
        ranks.append((process, told, answer))
    readers = [PulseReader(told.fileno()) for _, told, _ in ranks]
    while not all(answer.poll(0.05) for _, _, answer in ranks):
        for reader in readers:
            reader.read()
    found = [float(answer.recv()) for _, _, answer in ranks]
    for process, _, _ in ranks:
        process.join()
    return max(found)


def one_rank(rank: int, port: int, telling: Connection, answering: Connection) -> None:
    """Agree and tell, as the train loop does after each step."""
    os.environ.update(RANK=str(rank), WORLD_SIZE=str(RANKS), MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    step = SimpleNamespace(world_size=RANKS, device=torch.device("cpu"))
    run = cast(Run, SimpleNamespace(signals=SimpleNamespace(requested=False), rank=rank, fenced=None, step=step))
    pulse = Pulse(telling.fileno())
    for number in range(2 * STEPS):
        if number == STEPS:
            started = time.perf_counter()
        agree(run, save_due=False)
        pulse.tell(phase="training", step=number, took_step=True)
    answering.send((time.perf_counter() - started) / STEPS)
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
