"""`gpt-run job wait`, `job logs` and `status RELEASE` against a real API server: a run's way to its end, as told."""

from __future__ import annotations

import json
import threading
import time
from datetime import UTC, datetime, timedelta

from tests.cluster.api_server import ApiServer
from tests.cluster.jobs.conftest import MARKS, GptRun
from tests.cluster.stand_ins import Kubelet, StandIns
from trainer.elastic.rounds import Member, Round, Rules, Seen, Wait
from trainer.elastic.status import RunStatus
from trainer.jobs.backends import find_run
from trainer.jobs.cluster import connect
from trainer.jobs.logs import LogFollower

pytestmark = MARKS


def test_wait_follows_a_run_to_its_end(
    gpt_run: GptRun, stand_ins: StandIns, kubelet: Kubelet, status: tuple[RunStatus, str, int]
) -> None:
    stand_ins.pytorchjob("gpt2")
    report, address, port = status

    def run() -> None:
        stand_ins.pod("gpt2", "gpt2-worker-0", index=0)
        waiting = {"reason": "ImagePullBackOff", "message": "no such image"}
        stand_ins.container("gpt2-worker-0", waiting=waiting)
        time.sleep(3)
        report.report({"step": 5, "steps_total": 10, "loss": 2.5, "tokens_per_second": 1200.0})
        stand_ins.coordinator("gpt2", address, port)
        stand_ins.conditions("gpt2", "Created", "Running")
        time.sleep(3)
        stand_ins.conditions("gpt2", "Created", "Succeeded", message="PyTorchJob gpt2 successfully completed.")

    thread = threading.Thread(target=run)
    thread.start()
    result = gpt_run("job", "wait", "gpt2", "--timeout", "60")
    thread.join()
    assert result.code == 0
    lines = result.out.splitlines()
    assert lines[0] == "pending"
    assert "gpt2-worker-0: ImagePullBackOff: no such image" in lines
    assert any("step  5/10  loss 2.5000  1.2k tokens/s" in line for line in lines), lines
    assert lines[-1] == "gpt2 is Succeeded: PyTorchJob gpt2 successfully completed."


def test_wait_tells_why_a_run_failed(
    gpt_run: GptRun, stand_ins: StandIns, kubelet: Kubelet, status: tuple[RunStatus, str, int]
) -> None:
    stand_ins.pytorchjob("gpt2")
    report, address, port = status
    report.error(1, "WorkerFailed", "error: rank 1 died")
    stand_ins.coordinator("gpt2", address, port)
    stand_ins.pod("gpt2", "gpt2-worker-0", index=0)
    stand_ins.container("gpt2-worker-0", terminated={"exitCode": 1, "message": "error: 4 failures within 3600 s"})
    stand_ins.conditions("gpt2", "Failed", message="backoffLimit reached")
    result = gpt_run("job", "wait", "gpt2")
    assert result.code == 1
    assert result.out.splitlines()[-3:] == [
        "gpt2 is Failed: backoffLimit reached",
        "last error: error: rank 1 died",
        "gpt2-worker-0 ended with 1: error: 4 failures within 3600 s",
    ]
    found = json.loads(gpt_run("job", "wait", "gpt2", "--json").out)
    assert (found["phase"], found["timed_out"]) == ("Failed", False)


def test_wait_ends_with_75_for_a_suspended_run_unless_kueue_did_it(gpt_run: GptRun, stand_ins: StandIns) -> None:
    stand_ins.pytorchjob("gpt2")
    gpt_run("job", "suspend", "gpt2")
    assert gpt_run("job", "wait", "gpt2").code == 75
    stand_ins.pytorchjob("queued", labels={"kueue.x-k8s.io/queue-name": "team"})
    gpt_run("job", "suspend", "queued")
    result = gpt_run("job", "wait", "queued", "--timeout", "0")
    assert result.code == 1
    assert result.out.splitlines() == ["queued", "queued is Queued after 0 s; it goes on"]


def test_status_of_a_release(gpt_run: GptRun, stand_ins: StandIns, status: tuple[RunStatus, str, int]) -> None:
    stand_ins.pytorchjob("gpt2")
    away = gpt_run("status", "gpt2")
    assert away.code == 1
    assert "gpt2 is Pending, and its coordinator does not answer" in away.err
    assert "network.policy.from" not in away.err
    stand_ins.conditions("gpt2", "Created", "Running")
    assert "NetworkPolicy may keep the API server out (network.policy.from)" in gpt_run("status", "gpt2").err
    report, address, port = status
    report.report({"step": 5, "steps_total": 10})
    stand_ins.coordinator("gpt2", address, port)
    assert "5 of 10 (50.0%)" in gpt_run("status", "gpt2").out
    assert json.loads(gpt_run("status", "gpt2", "--json").out)["step"] == 5


START = datetime(2026, 1, 1, tzinfo=UTC)


def at(second: float, text: str) -> tuple[datetime, str]:
    """A line of a log."""
    return START + timedelta(seconds=second), text


def test_logs_follow_rank_0(
    servers: tuple[ApiServer, ApiServer],
    stand_ins: StandIns,
    kubelet: Kubelet,
    status: tuple[RunStatus, str, int],
    gpt_run: GptRun,
) -> None:
    stand_ins.pytorchjob("gpt2")
    report, address, port = status
    stand_ins.coordinator("gpt2", address, port)
    printed: list[str] = []
    said: list[str] = []
    cluster = connect(context=None, namespace=stand_ins.namespace)
    backend, _ = find_run(cluster, "gpt2")
    follower = LogFollower(cluster, backend, tail=None, out=printed.append, say=said.append)

    def look() -> list[str]:
        """What two looks print; the second one has nothing to add."""
        printed.clear()
        follower.look("gpt2", follow=True)
        first = list(printed)
        follower.look("gpt2", follow=True)
        assert printed == first
        return first

    assert "no log yet: gpt2 is Pending, and no worker has started" in gpt_run("job", "logs", "gpt2").err
    logs = kubelet.logs
    for index in range(2):
        stand_ins.pod("gpt2", f"gpt2-worker-{index}", index=index)
        stand_ins.container(f"gpt2-worker-{index}", running={})
    # Before a round: worker-0. Then the round: it has rank 0.
    worker0, worker1 = ("gpt2-worker-0", "pytorch"), ("gpt2-worker-1", "pytorch")
    logs[worker0] = [at(1, "warming up"), at(1, "waiting")]
    logs[worker1] = [at(1, "warming up, too")]
    assert look() == ["warming up", "waiting"]
    members(report, "gpt2-worker-0", "gpt2-worker-1")
    logs[worker0] += [at(1, "same moment"), at(10, "step 1")]
    assert look() == ["same moment", "step 1"]
    # Its container starts again: the end of the old one's log, and the new one's.
    kubelet.previous[worker0] = [*logs[worker0], at(20, "step 2")]
    logs[worker0] = [at(25, "step 3")]
    stand_ins.container("gpt2-worker-0", restarts=1, running={})
    assert look() == ["step 2", "step 3"]
    # It is gone, and rank 0 is on worker-1, whose older lines are not rank 0's.
    logs[worker1] += [at(15, "a warning of rank 1"), at(26, "step 4")]
    stand_ins.delete_pod("gpt2-worker-0")
    assert look() == []
    members(report, "gpt2-worker-1")
    assert look() == ["step 4"]
    assert said == ["rank 0 is on gpt2-worker-1"]
    # A new pod of the old name, on a node whose clock is late, takes over: all of its lines.
    stand_ins.pod("gpt2", "gpt2-worker-0", index=0)
    stand_ins.container("gpt2-worker-0", running={})
    logs[worker0] = [at(2, "step 5")]
    del kubelet.previous[worker0]
    stand_ins.delete_pod("gpt2-worker-1")
    members(report, "gpt2-worker-0")
    assert look() == ["step 5"]
    stand_ins.conditions("gpt2", "Succeeded")
    logs[worker0] += [at(3, "training is complete")]
    result = gpt_run("job", "logs", "gpt2", "--follow", "--tail", "1")
    assert (result.code, result.out) == (0, "training is complete\n")
    assert gpt_run("job", "logs", "gpt2").out == "step 5\ntraining is complete\n"


def members(status: RunStatus, *hosts: str) -> None:
    """A round of these launchers, the first with rank 0."""
    found = {host: Member(host, host, slots=1, since=i, seen_at=0.0) for i, host in enumerate(hosts)}
    seen = Seen(hold_until=0.0, rules=Rules(), members=found, round=Round("id", 1, tuple(found)))
    status.look_at("gpt2", seen, Wait(""), now=0.0)
