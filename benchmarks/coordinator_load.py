"""A coordinator with 1,024 launchers: how long rounds take to form, its processor time, /status, its own death.

    python -m benchmarks.coordinator_load [--launchers N ...] [--seconds S] [--json]

`gpt-run coordinator` is a process of its own with its default settings. The launchers are simulated, but their
connections and messages are real (benchmarks/coordinator_launchers.py); all come within ten seconds, train, lose one of
them, and see the coordinator killed and started again. Launchers and coordinator share this machine's processors: with
a machine for each launcher the times would be shorter. Linux only.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import random
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from multiprocessing.connection import Connection, wait

from benchmarks.common import cpu_seconds, hardware, memory_megabytes
from benchmarks.coordinator_launchers import SLOTS, WARM_UP_SECONDS, Started, serve
from tests.integration.servers import free_port

BARS = {
    "form_seconds": 5.0,
    "cores": 0.5,
    "reform_seconds": 5.0,
    "status_seconds": 0.1,
    "takeover_seconds": 5.0,
}
JOIN_SECONDS = 10.0
PROCESSES = 4
STATUS_READS = 20
PATIENCE_SECONDS = 60.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--launchers", type=int, nargs="+", default=[128, 1024], help="(default 128 1024)")
    parser.add_argument("--seconds", type=float, default=20.0, help="length of the steady state (default 20)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    results = {str(number): measure(number, options.seconds) for number in options.launchers}
    report = {"bars": BARS, "join_seconds": JOIN_SECONDS, "hardware": hardware(), "results": results}
    if options.json:
        print(json.dumps(report))
        return
    for number, result in results.items():
        print(f"{number} launchers of {SLOTS} GPUs")
        for key, value in result.items():
            print(f"  {key.replace('_', ' '):28} {value:12.3f}" + (f"   bar < {BARS[key]:g}" if key in BARS else ""))


def measure(number: int, seconds: float) -> dict[str, float]:
    """All figures for so many launchers."""
    port, http_port = free_port(), free_port()
    coordinator = start_coordinator(port, http_port)
    crowd = Crowd(number, port)
    try:
        started = crowd.wait_for_round(1, number)
        result = {"form_seconds": max(one.at for one in started) - max(one.ready_at for one in started)}
        result |= steady_state(coordinator.pid, http_port, seconds)
        died_at = time.monotonic()
        heard = crowd.kill_one()
        again = crowd.wait_for_round(2, number - 1)
        assert {one.world_size for one in again} == {(number - 1) * SLOTS}
        result |= {"reform_seconds": max(one.at for one in again) - died_at, "messages_to_one_launcher": heard}
        coordinator.kill()
        coordinator.wait()
        coordinator = start_coordinator(port, http_port)
        listening_at = time.monotonic()
        wait_until(lambda: taken_over(http_port, number - 1))
        result["takeover_seconds"] = time.monotonic() - listening_at
        crowd.expect_no_round()
        return result
    finally:
        crowd.close()
        coordinator.kill()
        coordinator.wait()


class Crowd:
    """Launchers in a few processes."""

    def __init__(self, number: int, port: int) -> None:
        """Begin to join. A round takes all of them, or all but one."""
        rng = random.Random(1)
        context = multiprocessing.get_context("spawn")
        self._controls: list[Connection] = []
        self._processes = []
        for part in range(PROCESSES):
            names = [f"{name:05d}" for name in range(part, number, PROCESSES)]
            # They come, and are ready once they are warm.
            joins = [rng.uniform(0.0, JOIN_SECONDS - WARM_UP_SECONDS) for _ in names]
            ours, theirs = context.Pipe()
            process = context.Process(
                target=serve, args=(theirs, names, port, (number - 1, number), joins), daemon=True
            )
            process.start()
            theirs.close()
            self._controls.append(ours)
            self._processes.append(process)

    def wait_for_round(self, number: int, launchers: int) -> list[Started]:
        """What so many launchers heard of a round; ends the program if they do not."""
        found: list[Started] = []
        deadline = time.monotonic() + PATIENCE_SECONDS
        while len(found) < launchers:
            ready = wait(self._controls, timeout=max(deadline - time.monotonic(), 0.0))
            if not ready:
                sys.exit(f"round {number} reached {len(found)} of {launchers} launchers in {PATIENCE_SECONDS:g} s")
            heard = [one.recv() for one in ready if isinstance(one, Connection)]
            unexpected = [one for one in heard if one.number != number]
            assert not unexpected, f"{unexpected[0]} while round {number} was due"
            found += heard
        return found

    def kill_one(self) -> int:
        """Close a launcher's connection as the kernel does for a dead process; messages that it had heard."""
        self._controls[0].send("00000")
        _name, heard = self._controls[0].recv()
        return int(heard)

    def expect_no_round(self) -> None:
        """Nobody may have been told to start again."""
        heard = [one.recv() for one in self._controls if one.poll(0.0)]
        assert not heard, f"{heard[0]} after the coordinator was replaced"

    def close(self) -> None:
        """End all launchers."""
        for control, process in zip(self._controls, self._processes, strict=True):
            control.send(None)
            process.join(timeout=30)


def start_coordinator(port: int, http_port: int) -> subprocess.Popen[str]:
    """`gpt-run coordinator`, listening; its log is thrown away."""
    command = [sys.executable, "-m", "trainer", "coordinator", "--port", str(port), "--http", str(http_port)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert process.stdout is not None
    process.stdout.readline()
    return process


def steady_state(pid: int, http_port: int, seconds: float) -> dict[str, float]:
    """Processor and memory of the coordinator while all train; /status on the way."""
    time.sleep(2.0)
    cpu, start = cpu_seconds(pid), time.monotonic()
    time.sleep(seconds)
    cores = (cpu_seconds(pid) - cpu) / (time.monotonic() - start)
    reads = []
    for _ in range(STATUS_READS):
        start = time.perf_counter()
        body = read_status(http_port)
        reads.append(time.perf_counter() - start)
    return {
        "cores": cores,
        "megabytes": memory_megabytes(pid, "VmHWM"),
        "status_bytes": len(body),
        "status_seconds": statistics.median(reads),
    }


def taken_over(http_port: int, launchers: int) -> bool:
    """Whether a new coordinator has all launchers of round 2."""
    status = json.loads(read_status(http_port))
    found = (status["round"], status["phase"], status["world_size"], len(status["members"]))
    return found == (2, "training", launchers * SLOTS, launchers)


def read_status(http_port: int) -> bytes:
    """The body of /status."""
    with urllib.request.urlopen(f"http://127.0.0.1:{http_port}/status", timeout=60) as answer:
        body: bytes = answer.read()
    return body


def wait_until(condition: Callable[[], bool]) -> None:
    """Ends the program if it takes too long."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        if time.monotonic() > deadline:
            sys.exit(f"not taken over in {PATIENCE_SECONDS:g} s")
        time.sleep(0.1)


if __name__ == "__main__":
    main()
