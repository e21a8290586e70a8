"""The operator killed again and again while runs have trouble: `python -m benchmarks.operator_kills [--kills 100]`.

Each run has one fault after another: its number of workers is changed through the TrainingRun or set out of bounds at
the job, it is suspended and resumed. Each wants exactly one action. (A silent launcher is no fault of this kind: each
process times the silence anew, and none here lives as long.) The operator gets SIGKILL
at random moments and starts again. Lost is an effect that never came; doubled is a change that was applied once more
than it was asked for: each change of a job's spec makes one more generation of it, so generations count effects. The
API server's audit log has each attempt beside them: one that a kill has cut off may have its effect without an answer
of success. Ctrl-C ends it early, with the report.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import random
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from kubernetes import client

from benchmarks.operator_load import JOBS, RUNS, of, say
from tests.cluster.operator_plane import NAMESPACE, Plane, plane, pytorchjob, training_run, wait_until

QUICK = ("--poll-seconds=1", "--status-interval-seconds=5")
_HANDLED_SECONDS = 120


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100, help="times that the operator is killed (default 100)")
    parser.add_argument("--runs", type=int, default=8, help="runs that have trouble meanwhile (default 8)")
    parser.add_argument("--seed", type=int, default=1, help="draws the moments and the trouble (default 1)")
    parser.add_argument("--audit", type=Path, help="keep the audit log here")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="operator-kills-") as folder, plane(Path(folder)) as made:
        report = measure(made, options.kills, options.runs, options.seed)
        if options.audit is not None:
            shutil.copy(made.audit, options.audit)
    if options.json:
        print(json.dumps(report))
    else:
        print(
            f"{report['kills']} kills, {report['faults']} faults: {report['lost']} actions lost, "
            f"{report['doubled']} doubled (bar 0 and 0); {report['cut_off']} done without an answer, "
            f"attempts by answer: {report['answers']}"
        )
        for kind, count in sorted(report["by_fault"].items()):
            print(f"  {kind:16} {count}")
    return int(bool(report["lost"] or report["doubled"]))


def measure(made: Plane, kills: int, runs: int, seed: int) -> dict[str, Any]:
    """The report."""
    made.add_nodes("node-0", "node-1", "node-2", "node-3", gpus=64)
    custom = client.CustomObjectsApi(made.api())
    names = [f"run-{i}" for i in range(runs)]
    for name in names:
        custom.create_namespaced_custom_object(*JOBS, pytorchjob(name))
        custom.create_namespaced_custom_object(*RUNS, training_run(name))
    process = made.start_operator("killed", *QUICK)
    wait_until(lambda: of(process, "gptrun_operator_runs").get("Running") == runs, 300, process.said)
    over = threading.Event()
    before = generations(custom, names)
    troubles = [Trouble(made, name, random.Random(f"{seed} {name}"), over) for name in names]
    for trouble in troubles:
        trouble.start()
    clock, killed = random.Random(seed), 0
    with contextlib.suppress(KeyboardInterrupt):
        while killed < kills:
            wait_until(lambda: of(process, "gptrun_operator_leader").get("") == 1, 120, process.said)  # noqa: B023
            time.sleep(clock.uniform(0, 1.5))
            process.end(signal.SIGKILL)
            process, killed = made.start_operator("killed", *QUICK), killed + 1
            if killed % 10 == 0:
                say(f"{killed} kills, {sum(sum(trouble.faults.values()) for trouble in troubles)} faults")
    over.set()
    for trouble in troubles:
        trouble.join()
    time.sleep(5)  # what would be done once too often has its chance
    process.end()
    after = generations(custom, names)
    runs_of = {trouble.run_name: trouble for trouble in troubles}
    wanted = {name: trouble.wanted for name, trouble in runs_of.items()}
    effects = {name: after[name] - before[name] - runs_of[name].own for name in names}
    answered = Counter(entry["objectRef"]["name"] for entry in made.actions())
    return {
        "kills": killed,
        "runs": runs,
        "faults": sum(sum(trouble.faults.values()) for trouble in troubles),
        "wanted": sum(wanted.values()),
        "by_fault": dict(sum((trouble.faults for trouble in troubles), Counter())),
        "lost": max(
            sum(trouble.failed for trouble in troubles), sum(max(0, wanted[name] - effects[name]) for name in names)
        ),
        # An answer of success that changed nothing would be one too many as well.
        "doubled": sum(max(0, effects[name] - wanted[name], answered[name] - wanted[name]) for name in names),
        "cut_off": sum(max(0, effects[name] - answered[name]) for name in names),
        "answers": answers(made),
        "differences": {
            name: [wanted[name], effects[name], answered[name]]
            for name in names
            if not wanted[name] == effects[name] == answered[name]
        },
    }


def generations(custom: client.CustomObjectsApi, names: list[str]) -> dict[str, int]:
    """Of each job: one more with each change of its spec."""
    return {name: int(custom.get_namespaced_custom_object(*JOBS, name)["metadata"]["generation"]) for name in names}


def answers(made: Plane) -> dict[str, int]:
    """How often which answer was given to an attempt to change a job."""
    found: Counter[str] = Counter()
    for line in made.audit.read_text().splitlines():
        with contextlib.suppress(ValueError):
            entry = json.loads(line)
            if (entry.get("objectRef") or {}).get("resource") == "pytorchjobs" and entry["verb"] in ("patch", "delete"):
                found[str((entry.get("responseStatus") or {}).get("code"))] += 1
    return dict(found)


class Trouble(threading.Thread):
    """One run's faults, one after another."""

    def __init__(self, made: Plane, name: str, dice: random.Random, over: threading.Event) -> None:
        super().__init__(daemon=True)
        self._made = made
        self.run_name = name
        self._dice = dice
        self._over = over
        self._custom = client.CustomObjectsApi(made.api())
        self._core = client.CoreV1Api(made.api())
        self.wanted = 0
        """Changes of the job that the operator has to make."""
        self.own = 0
        """Changes of the job that were made here."""
        self.faults: Counter[str] = Counter()
        self.failed = 0

    def run(self) -> None:
        """Until told to stop."""
        kinds: list[Callable[[], None]] = [self.scaled, self.out_of_bounds, self.suspended]
        while not self._over.is_set():
            kind = self._dice.choice(kinds)
            try:
                kind()
                self.faults[kind.__name__] += 1
            except AssertionError as error:
                say(f"{self.run_name}: {error}")
                self.failed += 1
            time.sleep(self._dice.uniform(0, 1))

    def scaled(self) -> None:
        """Through the TrainingRun."""
        replicas = 3 if self._replicas() == 2 else 2
        self._patch(RUNS, {"spec": {"replicas": replicas}})
        self.wanted += 1
        self._until(lambda: self._replicas() == replicas, f"not scaled to {replicas}")

    def out_of_bounds(self) -> None:
        """At the job, past its limits."""
        wish = self._get(RUNS)["spec"].get("replicas") or 4
        self._patch(JOBS, {"spec": {"pytorchReplicaSpecs": {"Worker": {"replicas": 6}}}})
        self.own += 1
        self.wanted += 1
        self._until(lambda: self._replicas() == wish, f"not set back to {wish}")

    def suspended(self) -> None:
        """And let go on."""
        for suspend in (True, False):
            self._patch(RUNS, {"spec": {"suspend": suspend}})
            self.wanted += 1
            self._until(lambda: self._suspended() == suspend, f"suspend is not {suspend}")  # noqa: B023
        self._until(lambda: self._get(RUNS)["status"].get("suspension") is None, "the suspension is not forgotten")
        self._until(lambda: self._running() == self._replicas(), "its pods do not come back")

    def _until(self, found: Callable[[], bool], complaint: str) -> None:
        wait_until(found, _HANDLED_SECONDS, complaint)

    def _get(self, kind: tuple[str, str, str, str]) -> dict[str, Any]:
        found: dict[str, Any] = self._custom.get_namespaced_custom_object(*kind, self.run_name)
        return found

    def _patch(self, kind: tuple[str, str, str, str], body: dict[str, Any]) -> None:
        self._custom.patch_namespaced_custom_object(*kind, self.run_name, body)

    def _replicas(self) -> int:
        return int(self._get(JOBS)["spec"]["pytorchReplicaSpecs"]["Worker"]["replicas"])

    def _suspended(self) -> bool:
        return bool(self._get(JOBS)["spec"]["runPolicy"].get("suspend"))

    def _pods(self) -> list[Any]:
        selector = f"training.kubeflow.org/job-name={self.run_name}"
        return list(self._core.list_namespaced_pod(NAMESPACE, label_selector=selector).items)

    def _running(self) -> int:
        return sum(pod.status.phase == "Running" and not pod.metadata.deletion_timestamp for pod in self._pods())


if __name__ == "__main__":
    sys.exit(main())
