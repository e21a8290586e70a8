"""A campaign: many small real runs under seeded faults, each held against the run left alone.

    python -m tests.faults [--n 100] [--seed 1] [--where local|cluster] [--jobs 2] [--results FOLDER]

Plays the seeds from --seed on, each with a plan drawn from it and nothing else, printed before it runs. Results are
JSON lines in the folder of --results; seeds that are there already are passed over, so that a campaign that was stopped
goes on. Ctrl+C and SIGTERM stop it, once the runs under way have ended. With `--n 1` the one seed is played whatever is
known of it, and what it printed is kept. Exits 1 if something did not hold.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import queue
import shutil
import signal
import statistics
import sys
import threading
import time
import traceback
from pathlib import Path
from typing import Any

from tests.faults import cluster_plan, plan
from tests.faults.checks import done_again, violations
from tests.faults.cluster import OnCluster
from tests.faults.drive import Driver
from tests.faults.evidence import gather
from tests.faults.local import Local
from tests.faults.network import Network
from tests.faults.plan import Plan
from tests.faults.where import Alone, Place
from tests.integration.training import Training, prepare

DRAW = {"local": plan.draw, "cluster": cluster_plan.draw}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=100, help="how many seeds (default 100)")
    parser.add_argument("--seed", type=int, default=1, help="the first one (default 1)")
    parser.add_argument(
        "--where", choices=DRAW, default="local", help="processes of this machine (default), or the test cluster on it"
    )
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time (default 2); a cluster has one")
    parser.add_argument("--results", type=Path, help="folder (default runs/faults, of a cluster runs/faults-cluster)")
    options = parser.parse_args()
    on_cluster = options.where == "cluster"
    if on_cluster and (why_not := OnCluster.none_here()) is not None:
        print(
            f"error: no campaign on a cluster: {why_not}\nexpected: the test cluster on this machine, whose nodes and "
            "programs may be broken\nto do: make cluster-up (root, Go); without it: make faults WHERE=local",
            file=sys.stderr,
        )
        return 2
    results = options.results or Path("runs/faults-cluster" if on_cluster else "runs/faults")
    campaign = Campaign(results, options.where, replay=options.n == 1)
    if on_cluster:
        options.jobs = 1  # its faults are everybody's
    campaign.play(range(options.seed, options.seed + options.n), jobs=options.jobs)
    return campaign.report(range(options.seed, options.seed + options.n))


class Campaign:
    """Seeds, played by several streams of runs at a time."""

    def __init__(self, folder: Path, where: str, *, replay: bool) -> None:
        """where: a key of DRAW. replay: play seeds of which there is a result already."""
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder.resolve()
        self._where = where
        self._replay = replay
        self._file = self._folder / "results.jsonl"
        self._lock = threading.Lock()
        self._alone: dict[tuple[int, float], Alone] = {}
        self._alone_lock = threading.Lock()
        self._waiting: queue.SimpleQueue[int] = queue.SimpleQueue()

    def results(self) -> dict[int, dict[str, Any]]:
        """What is known of each seed; of one that was played twice, the later."""
        lines = self._file.read_text().splitlines() if self._file.exists() else []
        return {result["seed"]: result for result in map(json.loads, lines)}

    def play(self, seeds: range, *, jobs: int) -> None:
        """Play all seeds that are not known yet."""
        known = {} if self._replay else self.results()
        if not (self._folder / "data" / "small").exists():
            (self._folder / "data").mkdir(exist_ok=True)
            prepare(self._folder / "data")
        Network.cannot()
        todo = [seed for seed in seeds if seed not in known]
        for seed in todo:
            self._waiting.put(seed)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop)
        streams = [threading.Thread(target=self._stream, args=(number,)) for number in range(min(jobs, len(todo)))]
        for stream in streams:
            stream.start()
        for stream in streams:
            stream.join()

    def _stop(self, *_: object) -> None:
        """Play no more seeds: what is under way ends in good order, and leaves nothing behind."""
        print("stopping after the runs that are under way", file=sys.stderr, flush=True)
        with contextlib.suppress(queue.Empty):
            while True:
                self._waiting.get_nowait()

    def report(self, seeds: range) -> int:
        """Print what came of the seeds; the exit code."""
        results = [result for seed, result in sorted(self.results().items()) if seed in seeds]
        failed = [result for result in results if result.get("violations")]
        skipped = [result for result in results if "skipped" in result]
        played = [result for result in results if "skipped" not in result]
        for result in skipped:
            print(f"seed {result['seed']} skipped: {result['skipped']}")
        for result in failed:
            print(f"seed {result['seed']} FAILED; again: make faults WHERE={self._where} SEED={result['seed']} N=1")
            for violation in result["violations"]:
                print(f"  {violation}")
        pauses = [pause for result in played for pause in result["pause_seconds"]]
        again = [steps for result in played for steps in result["done_again"]]
        print(
            f"{len(played)} runs, {len(failed)} failed, {len(skipped)} skipped, {len(seeds) - len(results)} to play; "
            f"pauses: median {statistics.median(pauses or [0]):.1f} s, longest {max(pauses, default=0):.1f} s; "
            f"steps done again: median {statistics.median(again or [0]):g}, most {max(again, default=0)}; "
            f"results in {self._file}"
        )
        return int(bool(failed) or len(results) < len(seeds))

    def _stream(self, number: int) -> None:
        """One thread: runs one after another on processes of their own."""
        folder = self._folder / f"stream-{number}"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        data = self._folder / "data" / "small"
        place = OnCluster(folder, data) if self._where == "cluster" else Local(folder, number, data)
        try:
            while True:
                try:
                    seed = self._waiting.get_nowait()
                except queue.Empty:
                    return
                plan = DRAW[self._where](seed)
                try:
                    result = self._play(place, plan, folder)
                except Exception as error:  # the next seeds are played all the same
                    traceback.print_exc()
                    result = _gone_wrong(plan, error)
                self._keep(result)
        finally:
            place.close()
            shutil.rmtree(folder, ignore_errors=True)

    def _play(self, place: Place, plan: Plan, folder: Path) -> dict[str, Any]:
        print("\n".join(plan.lines()), flush=True)
        if (reason := place.cannot(plan)) is not None:
            return {"seed": plan.seed, "skipped": reason}
        ranks = plan.ranks if plan.fixed or plan.machines == 1 else 1
        alone = self._run_left_alone(place, folder, ranks, plan.dropout)
        with place.stage(plan, folder / f"seed-{plan.seed}", alone) as stage:
            holds = False
            try:
                driver = Driver(stage, plan)
                driven = driver.run()
                observed = driver.observer.observed
                evidence = gather(plan, stage, driven, observed, alone)
                found = violations(evidence)
                holds = not found
            finally:
                if self._replay or not holds:
                    self._keep_outputs(plan.seed, stage.training)
        began_at = [played.began_at for played in driven.played if played.began_at is not None]
        return {
            **_about(plan),
            "violations": found,
            "missed": [miss for played in driven.played for miss in played.missed],
            "attempts": len(evidence.claims),
            "bitwise": evidence.bitwise,
            "pause_seconds": observed.pauses_seconds(began_at, time.monotonic()),
            "done_again": done_again(evidence),
            "seconds": round(driven.seconds, 1),
        }

    def _run_left_alone(self, place: Place, folder: Path, ranks: int, dropout: float) -> Alone:
        with self._alone_lock:
            key = (ranks, dropout)
            if key not in self._alone:
                self._alone[key] = place.alone(folder / f"alone-{ranks}-{dropout}", ranks=ranks, dropout=dropout)
            return self._alone[key]

    def _keep_outputs(self, seed: int, training: Training) -> None:
        kept = self._folder / f"outputs-{seed}"
        shutil.rmtree(kept, ignore_errors=True)
        kept.mkdir()
        for process in training.processes:
            shutil.copy(process.output, kept)
        for name in ("attempts", "logs"):
            if (training.run / name).exists():
                shutil.copytree(training.run / name, kept / name)
        shutil.copy(training.folder / "run.yaml", kept)

    def _keep(self, result: dict[str, Any]) -> None:
        verdict = "skipped" if "skipped" in result else "FAILED" if result["violations"] else "holds"
        print(f"seed {result['seed']}: {verdict} {'; '.join(result.get('violations', []))}"[:1000], flush=True)
        with self._lock, self._file.open("a") as stream:
            stream.write(json.dumps(result) + "\n")


def _about(plan: Plan) -> dict[str, Any]:
    """What a result says of its plan."""
    return {
        "seed": plan.seed,
        "plan": plan.lines(),
        "kinds": sorted(plan.kinds),
        "whens": [moment.when for moment in plan.moments],
    }


def _gone_wrong(plan: Plan, error: Exception) -> dict[str, Any]:
    """The result of a run that could not be looked at: nothing is known to hold."""
    return {
        **_about(plan),
        "violations": [f"the run could not be judged: {error!r}"],
        "missed": [],
        "attempts": 0,
        "bitwise": False,
        "pause_seconds": [],
        "done_again": [],
        "seconds": 0.0,
    }


if __name__ == "__main__":
    sys.exit(main())
