"""Pauses of a run when machines stop, die, fail, join and freeze, against plain torchrun's, side by side.

    python -m benchmarks.recovery [--repeats N] [--torchrun-repeats N] [--json]

Three machines are three launchers of one worker each on this machine, with a GPT-2 of about a million parameters. A
pause is the gap between the ends of the last step before an event and the first one after it, less the median step;
lost are steps that had to be done again. torchrun runs the same worker with its best settings: a rendezvous host that
no event touches, keep-alive of 1 s three times, last call of 1 s, monitor interval of 0.1 s. A frozen machine is left
out on its side: its peers wait until the process group times out.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

from benchmarks.common import hardware
from benchmarks.whole_run import prepare_text
from tests.integration.nodes import Nodes
from tests.integration.servers import free_port
from tests.integration.training import Process, Training

RUN: dict[str, Any] = {
    "steps": 1_000_000,
    "model": {"preset": "tiny-gpt2", "vocab_size": 2048, "context": 128, "layers": 4},
    "sequence_length": 128,
    "batch": {"sequences": 12, "micro_sequences": 4},
    "precision": "fp32",
    "checkpoint": {"every_steps": 20},
    "log": {"every_steps": 1},
}
STEPS_BEFORE = 25
STEPS_AFTER = 5
AWAY_SECONDS = 5.0
# Pause in seconds and steps lost that each event may cost; None: those since the newest commit.
BARS: dict[str, tuple[float, int | None]] = {
    "SIGTERM to a machine": (2.5, 0),
    "SIGKILL of a machine": (2.0, None),
    "SIGKILL of rank 0's machine": (2.0, None),
    "SIGKILL of a worker": (2.5, None),
    "a machine joins": (3.0, 0),
    "a machine freezes": (4.0, None),
    "the coordinator is away for 5 s": (1.0, 0),
}
Event = tuple[str, float, int]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5, help="runs under all events (default 5)")
    parser.add_argument("--torchrun-repeats", type=int, default=2, help="the same of torchrun's, which take long")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    events: dict[str, list[Event]] = {"gpt-run": [], "torchrun": []}
    with tempfile.TemporaryDirectory() as name:
        text = prepare_text(Path(name))
        for repeat in range(options.repeats):
            for side in ("gpt-run", "torchrun")[: 2 if repeat < options.torchrun_repeats else 1]:
                training = Training(Path(name) / f"{side}-{repeat}", text, RUN)
                machines = OurMachines(training) if side == "gpt-run" else TorchrunMachines(training)
                events[side] += measure(machines)
                print(f"{side} {repeat + 1}: {events[side]}", file=sys.stderr, flush=True)
    result = {
        "repeats": options.repeats,
        "bars": {name: {"seconds": seconds, "lost_steps": lost} for name, (seconds, lost) in BARS.items()},
        "results": {side: summary(found) for side, found in events.items()},
        "hardware": hardware(),
    }
    print(json.dumps(result) if options.json else report(result))


class OurMachines:
    """Launchers at a coordinator."""

    def __init__(self, training: Training) -> None:
        self.training = training
        self.nodes = Nodes(training, nodes="1:3")

    def start(self) -> Process:
        return self.nodes.start()

    def coordinator_away(self) -> None:
        """Dead for a while; then a new one, and time for everybody to come back to it."""
        self.nodes.coordinator.power_off()
        time.sleep(AWAY_SECONDS)
        self.nodes.start_coordinator()
        time.sleep(AWAY_SECONDS)


class TorchrunMachines:
    """torchrun agents at a rendezvous store of their own."""

    coordinator_away: Callable[[], None] | None = None

    def __init__(self, training: Training) -> None:
        self.training = training
        self._port = free_port()
        host = f"import torch.distributed as d, time; s = d.TCPStore('127.0.0.1', {self._port}, is_master=True, "
        training.start("-c", host + "wait_for_workers=False); print('open', flush=True); time.sleep(1e6)", program=())
        self._host_is_up = False

    def start(self) -> Process:
        if not self._host_is_up:
            self.training.processes[-1].wait_for("open")
            self._host_is_up = True
        conf = "is_host=0,keep_alive_interval=1,keep_alive_max_attempt=3,last_call_timeout=1,join_timeout=60"
        return self.training.start(
            *("--nnodes", "1:3", "--nproc-per-node", "1", "--max-restarts", "100", "--monitor-interval", "0.1"),
            *("--rdzv-backend", "c10d", "--rdzv-endpoint", f"127.0.0.1:{self._port}", "--rdzv-id", "run"),
            *("--rdzv-conf", conf, "-m", "trainer", "worker", "run.yaml"),
            program=("-m", "torch.distributed.run"),
            environment={"TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"},
        )


def measure(machines: OurMachines | TorchrunMachines) -> list[Event]:
    """All events in one run, one after another."""
    training = machines.training
    found: list[Event] = []

    def event(name: str, happens: Callable[[], object], *, after: Callable[[], object] = lambda: None) -> None:
        wait_for_steps(training, STEPS_BEFORE)
        attempt = len(training.claims())
        happens()
        wait_for_steps(training, STEPS_AFTER, attempt=attempt + 1)
        found.append((name, *training.pause_after(f"a{attempt:04d}")))
        after()

    def back_to_three(process: Process) -> None:
        attempt = len(training.claims())
        processes.append(process)
        wait_for_steps(training, STEPS_AFTER, attempt=attempt + 1)

    try:
        processes = [machines.start() for _ in range(3)]
        wait_for_world(training, 3)
        event("SIGTERM to a machine", lambda: terminate(processes.pop(1)))
        event("a machine joins", lambda: processes.append(machines.start()))
        event("SIGKILL of a machine", lambda: processes.pop(1).power_off())
        back_to_three(machines.start())
        event("SIGKILL of rank 0's machine", lambda: rank_0(processes).power_off())
        processes = [process for process in processes if process.popen.poll() is None]
        back_to_three(machines.start())
        event("SIGKILL of a worker", lambda: kill_worker(processes[1]))
        if machines.coordinator_away is not None:
            event("a machine freezes", lambda: freeze(processes[1]))
            processes.pop(1).power_off()
            wait_for_steps(training, STEPS_BEFORE)
            name = f"a{len(training.claims()):04d}"
            machines.coordinator_away()
            times = [when for attempt, _, when in training.step_times() if attempt == name]
            gaps = [later - earlier for earlier, later in pairwise(times)]
            lost = 0 if len(training.claims()) == int(name[1:]) else 1
            found.append(("the coordinator is away for 5 s", max(gaps) - statistics.median(gaps), lost))
    finally:
        training.end()
    return found


def wait_for_world(training: Training, machines: int) -> None:
    """Wait until so many machines train together; they may have begun with fewer."""
    deadline = time.monotonic() + 300
    while not (claims := training.claims()) or claims[-1]["world_size"] < machines:
        if time.monotonic() > deadline:
            raise RuntimeError(f"no world of {machines}")
        time.sleep(0.05)


def wait_for_steps(training: Training, steps: int, *, attempt: int | None = None, last_step: int | None = None) -> None:
    """Wait until the newest attempt, or any from the given one on, has logged so many steps, or the run its last."""
    deadline = time.monotonic() + 300
    while last_step is None or last_step not in training.steps():
        newest = len(training.claims())
        if newest >= (attempt or 1) and len(training.steps(f"a{newest:04d}")) >= steps:
            return
        if time.monotonic() > deadline:
            texts = "\n".join(process.text[-2000:] for process in training.processes)
            raise RuntimeError(f"no {steps} steps from attempt {attempt} on:\n{texts}")
        time.sleep(0.02)


def terminate(process: Process) -> None:
    """SIGTERM, as a drain sends it."""
    process.popen.terminate()


def freeze(process: Process) -> None:
    """SIGSTOP to all of a machine."""
    process.freeze()


def kill_worker(process: Process) -> None:
    """SIGKILL to a machine's worker alone."""
    process.workers()[0].kill()


def rank_0(processes: list[Process]) -> Process:
    """The machine that rank 0 runs on."""
    names = {process: [worker.name() for worker in process.workers()] for process in processes}
    return next(process for process in processes if "gpt-run:rank0" in names[process])


def summary(events: list[Event]) -> dict[str, dict[str, Any]]:
    """Median and largest pause, and most steps lost, of each event."""
    found = {}
    for name in dict.fromkeys(event[0] for event in events):
        seconds = [event[1] for event in events if event[0] == name]
        found[name] = {
            "median_seconds": statistics.median(seconds),
            "max_seconds": max(seconds),
            "lost_steps": max(event[2] for event in events if event[0] == name),
        }
    return found


def report(result: dict[str, Any]) -> str:
    """A table for people."""
    lines = [
        f"{'pause, median (largest) of ' + str(result['repeats']):42}{'gpt-run':>18}{'torchrun':>18}{'bar':>8}  lost"
    ]
    for name, (bar, _) in BARS.items():
        cells = []
        for side in ("gpt-run", "torchrun"):
            figures = result["results"][side].get(name)
            cells.append(f"{figures['median_seconds']:.1f} ({figures['max_seconds']:.1f}) s" if figures else "-")
        ours = result["results"]["gpt-run"][name]
        lines.append(f"{name:42}{cells[0]:>18}{cells[1]:>18}{bar:>6} s  {ours['lost_steps']}")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
