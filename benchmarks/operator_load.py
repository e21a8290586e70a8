"""What a thousand runs cost the operator: `python -m benchmarks.operator_load [--runs 1000] [--json]`.

A real API server with KWOK nodes and the real training operator; every run has a PyTorchJob, its pods and a live
`/status`, all answered by one local process. Measured at the default intervals, once all runs are known: CPU and memory
of the operator's process, writes to the API server, and how long a change of `spec.replicas` takes to reach the job.
Everything shares this machine, so the figures are upper bounds: beside the delays stands how much of the time the
operator's event loop had something to do and got no CPU.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from kubernetes import client, watch
from prometheus_client.parser import text_string_to_metric_families

from benchmarks.common import cpu_seconds, memory_megabytes
from tests.cluster.operator_plane import NAMESPACE, Plane, Process, plane, pytorchjob, training_run, wait_until

INTERVAL_SECONDS, POLL_SECONDS = 30, 10
BARS = {"cores": 1.0, "megabytes": 500.0, "writes_per_run_and_interval": 1.0, "event_to_action_p99_seconds": 2.0}
JOBS = ("kubeflow.org", "v1", NAMESPACE, "pytorchjobs")
RUNS = ("gptrun.io", "v1alpha1", NAMESPACE, "trainingruns")
GPUS_PER_NODE = 32
_SETTLE_SECONDS = 900


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=1000, help="TrainingRuns (default 1000)")
    parser.add_argument("--pods", type=int, default=2, help="of each run")
    parser.add_argument("--seconds", type=float, default=90.0, help="of steady state")
    parser.add_argument("--changes", type=int, default=100, help="runs whose replicas are changed")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="operator-load-") as folder, plane(Path(folder)) as made:
        report = measure(made, options.runs, options.pods, options.seconds, options.changes)
    if options.json:
        print(json.dumps(report))
    else:
        show(report)
    return 0


def measure(made: Plane, runs: int, pods: int, seconds: float, changes: int) -> dict[str, Any]:
    """The report."""
    nodes = (runs * pods + changes) // GPUS_PER_NODE + 2
    made.add_nodes(*(f"node-{i:04}" for i in range(nodes)), gpus=GPUS_PER_NODE)
    names = [f"run-{i:04}" for i in range(runs)]
    custom = client.CustomObjectsApi(made.api())
    say(f"{runs} jobs of {pods} pods on {nodes} nodes ...")
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda name: custom.create_namespaced_custom_object(*JOBS, pytorchjob(name, pods)), names))
        list(pool.map(lambda name: custom.create_namespaced_custom_object(*RUNS, training_run(name)), names))
    core = client.CoreV1Api(made.api())

    def waiting() -> int:
        time.sleep(2)
        found = core.list_namespaced_pod(NAMESPACE, resource_version="0", _preload_content=False)
        return runs * pods - int(found.data.count(b'"phase":"Running"'))

    wait_until(lambda: waiting() <= 0, _SETTLE_SECONDS, lambda: f"{waiting()} pods do not run")
    say("the operator starts ...")
    began = time.monotonic()
    process = made.start_operator("load")
    wait_until(lambda: phases(process).get("Running") == runs, _SETTLE_SECONDS, process.said)
    ready = time.monotonic() - began
    say(f"all runs known after {ready:.1f} s; steady state ...")
    time.sleep(INTERVAL_SECONDS)
    steady = steady_state(made, process, runs, seconds)
    say("changes ...")
    waited, start = waiting_seconds(process.popen.pid), time.monotonic()
    delays = event_to_action(made, custom, names[:: max(1, runs // changes)][:changes], pods)
    waited = (waiting_seconds(process.popen.pid) - waited) / (time.monotonic() - start)
    return {
        "runs": runs,
        "pods": runs * pods,
        "nodes": nodes,
        "seconds_until_all_known": round(ready, 1),
        **steady,
        "changes": len(delays),
        "event_to_action_p50_seconds": round(float(np.percentile(delays, 50)), 3),
        "event_to_action_p99_seconds": round(float(np.percentile(delays, 99)), 3),
        "event_loop_without_cpu": round(waited, 3),
        "lease_lost": sum("stands by" in line["message"] for line in process.lines()),
        "machine_load": round(os.getloadavg()[0], 1),
        "bars": BARS,
    }


def steady_state(made: Plane, process: Process, runs: int, seconds: float) -> dict[str, Any]:
    """CPU, memory and writes while nothing happens but training."""
    before, cpu, start = status_writes(made), cpu_seconds(process.popen.pid), time.monotonic()
    polls = sum(of(process, "gptrun_operator_coordinator_polls_total").values())
    time.sleep(seconds)
    elapsed = time.monotonic() - start
    writes = status_writes(made) - before
    asked = sum(of(process, "gptrun_operator_coordinator_polls_total").values()) - polls
    return {
        "steady_seconds": round(elapsed, 1),
        "cores": round((cpu_seconds(process.popen.pid) - cpu) / elapsed, 3),
        "megabytes": round(memory_megabytes(process.popen.pid, "VmRSS"), 1),
        "most_megabytes": round(memory_megabytes(process.popen.pid, "VmHWM"), 1),
        "writes_per_run_and_interval": round(writes / runs * INTERVAL_SECONDS / elapsed, 3),
        "polls_per_second": round(asked / elapsed, 1),
    }


def event_to_action(made: Plane, custom: client.CustomObjectsApi, names: Sequence[str], pods: int) -> list[float]:
    """Seconds from a change of a run to that of its job, for each of them, a few a second."""
    asked: dict[str, float] = {}
    delays: dict[str, float] = {}

    def follow() -> None:
        stream = watch.Watch()
        version = custom.list_namespaced_custom_object(*JOBS, limit=1)["metadata"]["resourceVersion"]
        for event in stream.stream(
            client.CustomObjectsApi(made.api()).list_namespaced_custom_object, *JOBS, resource_version=version
        ):
            name = event["object"]["metadata"]["name"]
            replicas = event["object"]["spec"]["pytorchReplicaSpecs"]["Worker"]["replicas"]
            if name in asked and name not in delays and replicas == pods + 1:
                delays[name] = time.monotonic() - asked[name]
                if len(delays) == len(names):
                    return

    thread = threading.Thread(target=follow, daemon=True)
    thread.start()
    time.sleep(2)
    for name in names:
        asked[name] = time.monotonic()
        custom.patch_namespaced_custom_object(*RUNS, name, {"spec": {"replicas": pods + 1}})
        time.sleep(0.2)
    wait_until(lambda: len(delays) == len(asked), 120, lambda: f"{len(delays)} of {len(asked)} were done")
    return list(delays.values())


def status_writes(made: Plane) -> int:
    """PATCHes of statuses in the API server's audit log."""
    return sum('"subresource":"status"' in line and '"verb":"patch"' in line for line in made.audit.open())


def phases(process: Process) -> dict[str, float]:
    """gptrun_operator_runs by phase."""
    return of(process, "gptrun_operator_runs")


def of(process: Process, name: str) -> dict[str, float]:
    """Samples of one metric, by the value of its one label."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{process.port}/metrics", timeout=30) as answer:
            text = answer.read().decode()
    except OSError:
        return {}
    return {
        next(iter(sample.labels.values()), ""): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == name
    }


def waiting_seconds(pid: int) -> float:
    """Time that its first thread, the event loop, was ready to run and did not (schedstat's second field)."""
    return int(Path(f"/proc/{pid}/task/{pid}/schedstat").read_text().split()[1]) / 1e9


def show(report: dict[str, Any]) -> None:
    """The table."""
    print(f"{report['runs']} runs, {report['pods']} pods on {report['nodes']} nodes")
    for key, bar in BARS.items():
        value = report[key]
        print(f"{key.replace('_', ' '):32} {value:8.3f}   bar {bar:g}{'' if value <= bar else ' (missed)'}")
    for key in (
        "event_to_action_p50_seconds",
        "most_megabytes",
        "polls_per_second",
        "seconds_until_all_known",
        "event_loop_without_cpu",
        "lease_lost",
        "machine_load",
    ):
        print(f"{key.replace('_', ' '):32} {report[key]:8.3f}")


def say(text: str) -> None:
    """A line of progress."""
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
