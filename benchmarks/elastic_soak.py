"""Runs of 500 steps under seeded trouble against one left alone: batches, losses, and what is left behind.

    python -m benchmarks.elastic_soak [--seeds N] [--first SEED] [--json]

Up to three machines train, whose clocks are 5 s apart; at random steps one is told to stop, loses its power, loses its
worker, joins, freezes and comes back, or the coordinator is replaced. In the end every global batch must be in the
final lineage once, with the loss of the run left alone within 1e-5, and no process may be left. A failing seed is told
with its events.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import random
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil

from benchmarks.common import hardware
from benchmarks.recovery import wait_for_steps, wait_for_world
from benchmarks.whole_run import prepare_text
from tests.integration.clocks import skewed
from tests.integration.nodes import Nodes
from tests.integration.training import Process, Training

STEPS = 500
MACHINES = 3
BAR_LOSS_DIFFERENCE = 1e-5
RUN: dict[str, Any] = {
    "steps": STEPS,
    "model": {"preset": "tiny-gpt2", "vocab_size": 2048, "context": 128, "layers": 2},
    "sequence_length": 128,
    "batch": {"sequences": 10, "micro_sequences": 4},
    # At a higher learning rate so small a model is unstable, and rounding grows.
    "optimizer": {"type": "adamw", "lr": 3e-4},
    "precision": "fp32",
    "checkpoint": {"every_steps": 25, "keep": {"rolling": 1000}},
    "elastic": {"budget": {"failures": 100}},
    "log": {"every_steps": 1},
}
CLOCKS_SECONDS = (-5, 0, 5)
EVENTS = ("terminate", "power off", "kill a worker", "freeze", "replace the coordinator")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=20, help="how many seeds, each a run (default 20)")
    parser.add_argument("--first", type=int, default=1, help="the first seed (default 1)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    results = []
    with tempfile.TemporaryDirectory() as name:
        text = prepare_text(Path(name))
        alone = Training(Path(name) / "alone", text, RUN)
        process = alone.train()
        if process.popen.wait() != 0:
            sys.exit(f"the run left alone failed:\n{process.text}")
        for seed in range(options.first, options.first + options.seeds):
            results.append(one_run(Training(Path(name) / str(seed), text, RUN), alone, seed))
            print(json.dumps(results[-1]), file=sys.stderr, flush=True)
    result = {
        "bar_loss_difference": BAR_LOSS_DIFFERENCE,
        "steps": STEPS,
        "seeds": len(results),
        "failed_seeds": [one["seed"] for one in results if not one["ok"]],
        "attempts": sum(one["attempts"] for one in results),
        "different_batches": sum(one["different_batches"] for one in results),
        "largest_loss_difference": max(one["largest_loss_difference"] for one in results),
        "steps_done_again": sum(one["steps_done_again"] for one in results),
        "processes_left": sum(one["processes_left"] for one in results),
        "hardware": hardware(),
    }
    print(json.dumps(result) if options.json else report(result))
    return int(bool(result["failed_seeds"]))


def one_run(training: Training, alone: Training, seed: int) -> dict[str, Any]:
    """One seed: trouble until step 400, then the end."""
    trouble = Trouble(training, random.Random(seed))
    error = None
    try:
        codes = trouble.run()
    except (RuntimeError, AssertionError) as caught:
        error, codes = str(caught)[-2000:], []
    left = trouble.left_behind()
    training.end()
    ours, theirs = training.steps(), alone.steps()
    different = sum(ours.get(step, (0, ""))[1] != theirs[step][1] for step in theirs)
    largest = max((abs(ours[step][0] - theirs[step][0]) for step in theirs if step in ours), default=float("inf"))
    lines = [record["step"] for record in training.records() if "loss" in record]
    return {
        "seed": seed,
        "ok": error is None
        and set(codes) <= {0}
        and not different
        and largest <= BAR_LOSS_DIFFERENCE
        and not left
        and list(ours) == list(theirs),
        "error": error,
        "events": trouble.events,
        "attempts": len(training.claims()),
        "different_batches": different,
        "largest_loss_difference": largest,
        "steps_done_again": len(lines) - len(set(lines)),
        "processes_left": left,
    }


class Trouble:
    """What happens to one run."""

    def __init__(self, training: Training, chance: random.Random) -> None:
        self.events: list[str] = []
        self._training = training
        self._chance = chance
        self._nodes = Nodes(training, nodes=f"1:{MACHINES}")
        self._machines: list[Process] = []
        self._seen: dict[int, psutil.Process] = {}

    def run(self) -> list[int]:
        """Trouble until the run is near its end; the exit codes of the machines that were there then."""
        for _ in range(MACHINES):
            self._start()
        wait_for_world(self._training, MACHINES)
        while True:
            self._training_goes_on(1, steps=self._chance.randint(1, 40))
            if max(self._training.steps()) > 0.8 * STEPS:
                break
            self._note_processes()
            if len(self._machines) < MACHINES:
                self._start()
                self._training_goes_on(len(self._training.claims()) + 1)
            else:
                self._happen(self._chance.choice(EVENTS))
        self._note_processes()
        return [machine.popen.wait(300) for machine in self._machines]

    def left_behind(self) -> int:
        """Processes of machines that are not there any more, a moment after the end."""
        deadline = time.monotonic() + 10
        while True:
            alive = [one for one in self._seen.values() if one.is_running() and one.status() != psutil.STATUS_ZOMBIE]
            if not alive or time.monotonic() > deadline:
                return len(alive)
            time.sleep(0.1)

    def _start(self) -> None:
        self.events.append("join")
        self._machines.append(self._nodes.start(environment=skewed(self._chance.choice(CLOCKS_SECONDS))))

    def _happen(self, event: str) -> None:
        self.events.append(event)
        attempt = len(self._training.claims())
        index = self._chance.randrange(len(self._machines))
        if event == "replace the coordinator":
            self._nodes.coordinator.power_off()
            time.sleep(self._chance.uniform(0, 3))
            self._nodes.start_coordinator()
            return
        machine = self._machines[index]
        if event == "terminate":
            machine.popen.terminate()
            if (code := self._machines.pop(index).popen.wait(120)) not in (75, 0):
                raise RuntimeError(f"a machine told to stop ended with {code}:\n{machine.text[-2000:]}")
        elif event == "power off":
            self._machines.pop(index).power_off()
        elif event == "kill a worker":
            for worker in machine.workers():
                worker.kill()
        elif event == "freeze":
            frozen = machine.freeze()
            self._training_goes_on(attempt + 1)
            for process in frozen:
                process.resume()
            attempt += 1
        self._training_goes_on(attempt + 1)

    def _training_goes_on(self, attempt: int, *, steps: int = 1) -> None:
        """Wait for some steps from this attempt on; the run may be over before a machine is warm."""
        wait_for_steps(self._training, steps, attempt=attempt, last_step=STEPS)

    def _note_processes(self) -> None:
        for machine in self._machines:
            with contextlib.suppress(psutil.NoSuchProcess):
                self._seen.update({process.pid: process for process in machine.tree()})


def report(result: dict[str, Any]) -> str:
    """The figures for people."""
    return (
        f"{result['seeds']} runs of {result['steps']} steps, {result['attempts']} attempts: "
        f"{result['different_batches']} batches differ, losses by at most {result['largest_loss_difference']:.1e} (bar "
        f"{result['bar_loss_difference']:g}), {result['steps_done_again']} steps were done again, "
        f"{result['processes_left']} processes left; failed seeds: {result['failed_seeds'] or 'none'}"
    )


if __name__ == "__main__":
    sys.exit(main())
