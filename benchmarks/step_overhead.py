"""What elasticity adds to each step: the flags that all ranks share, and the word to the launcher.

    python -m benchmarks.step_overhead [--json]

Two ranks on this machine sum their losses, as every step does, in turns alone and with the flags and the pulse of the
train loop; the launcher's end of the pipe is read as a launcher does. The figure is the difference. Bar: below 0.5% of
a step of 100 ms.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable
from multiprocessing import get_context
from multiprocessing.connection import Connection
from statistics import median
from typing import Any

import torch
import torch.distributed as dist

from benchmarks.common import hardware
from tests.integration.servers import free_port
from trainer.elastic.pulse import Pulse, PulseReader
from trainer.train.step import Flags, share

STEP_SECONDS = 0.1
BAR_RATIO = 0.005
RANKS = 2
TURNS = 11
STEPS = 500  # of one turn


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    as_json = parser.parse_args().json
    alone, elastic = measure()
    seconds = elastic - alone
    result = {
        "bar_ratio": BAR_RATIO,
        "step_seconds": STEP_SECONDS,
        "loss_alone_seconds": alone,
        "with_flags_and_pulse_seconds": elastic,
        "seconds": seconds,
        "ratio": seconds / STEP_SECONDS,
        "hardware": hardware(),
    }
    line = (
        f"{elastic * 1e6:.0f} us a step against {alone * 1e6:.0f} for the loss alone: {seconds * 1e6:.0f} us, "
        f"{result['ratio']:.2%} of {STEP_SECONDS:g} s (bar {BAR_RATIO:.1%})"
    )
    print(json.dumps(result) if as_json else line)


def measure() -> tuple[float, float]:
    """Seconds per step on the slowest rank, median over turns: the loss alone; with flags and pulse."""
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
    found = [answer.recv() for _, _, answer in ranks]
    for process, _, _ in ranks:
        process.join()
    return max(alone for alone, _ in found), max(elastic for _, elastic in found)


def one_rank(rank: int, port: int, telling: Connection, answering: Connection) -> None:
    """Take turns, and answer with the median seconds per step of each kind."""
    os.environ.update(RANK=str(rank), WORLD_SIZE=str(RANKS), MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    pulse = Pulse(telling.fileno())
    loss_sum = torch.ones(1, dtype=torch.float64)

    def loss_alone(_: int) -> None:
        shared = loss_sum.clone()
        dist.all_reduce(shared)
        shared.tolist()

    def with_flags_and_pulse(number: int) -> None:
        _, told = share(loss_sum, Flags(), RANKS).tolist()
        Flags.unpacked(told)
        pulse.tell(phase="training", step=number, took_step=True)

    def turn(step: Callable[[int], None]) -> float:
        started = time.perf_counter()
        for number in range(STEPS):
            step(number)
        return (time.perf_counter() - started) / STEPS

    turns = [(turn(loss_alone), turn(with_flags_and_pulse)) for _ in range(TURNS)]
    answering.send(tuple(median(kind) for kind in zip(*turns, strict=True)))
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
