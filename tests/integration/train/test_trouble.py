"""What may befall a run that is under way: it goes on, or ends with a reason, and keeps its last good checkpoint."""

from __future__ import annotations

import json
import os
import re
import resource
import signal
from collections.abc import Callable

import psutil
import pytest

from tests.integration.proxy import Proxy
from tests.integration.servers import Server, s3_environment
from tests.integration.train.conftest import MakeTraining, Warm
from tests.integration.training import Training
from trainer.checkpoint.references import resolve_url


def test_nan_loss_ends_the_run_and_names_the_batch(make_training: MakeTraining, warm: Warm) -> None:
    alone, training = make_training(), make_training()
    assert warm.worker(alone).code == 0
    assert warm.worker(training, "steps=4").code == 0
    # Weights overflow in an update, so that every later loss is not a number.
    ended = warm.worker(training, "optimizer.lr=1e35", "checkpoint.every_steps=1", "guard.nonfinite_steps=3")
    assert ended.code == 1
    found = re.search(r"error: step (\d+): loss nan.*\(batch (\w{64})\): the last 3 steps were not finite", ended.text)
    assert found is not None, ended.text
    assert found[2] == alone.steps()[int(found[1])][1]
    assert "Traceback" not in ended.text
    records = training.records("a0002")
    assert [record["loss"] for record in records[-2:]] == [None, None]
    # What was good stays, and nothing was saved while the weights were suspect.
    assert training.checkpoints()[0] == "step-00000004-a0001"
    assert training.checkpoints()[-1] < f"step-{int(found[1]) - 2:08d}"


@pytest.mark.parametrize("ending", ["last", "stopped"])
def test_no_attempt_ends_with_weights_that_may_be_broken(training: Training, warm: Warm, ending: str) -> None:
    assert warm.worker(training, "steps=4").code == 0
    # The update of step 5 breaks the weights; the limit on steps that are not finite is not reached.
    broken = ["optimizer.lr=1e38", "guard.nonfinite_steps=100000", "schedule.warmup_steps=0"]
    if ending == "last":
        ended = warm.worker(training, *broken, "steps=6", ranks=2)
        codes, text = ended.codes, ended.text
    else:
        (job,) = warm.workers(training, *broken, "steps=100000")
        job.wait_for("update skipped, 1 of 100000 in a row")
        os.kill(job.pid, signal.SIGTERM)
        codes, text = [job.wait()], job.text
    assert set(codes) == {1}
    assert re.search(r"error: step \d+ \(batch \w{64}\), the last of this attempt, was not finite, .* not saved", text)
    assert training.checkpoints() == ["step-00000004-a0001"]


def test_a_full_disk_in_the_middle_of_a_save(make_training: MakeTraining, warm: Warm) -> None:
    training = make_training(steps=400, batch={"micro_sequences": 1}, checkpoint={"every_steps": 2})
    (job,) = warm.workers(training)
    job.wait_for("^saved step-00000002")
    # Less than one file of a checkpoint: the kernel then refuses to let it grow, as on a disk without room.
    psutil.Process(job.pid).rlimit(psutil.RLIMIT_FSIZE, (200_000, resource.RLIM_INFINITY))
    job.wait_for(r"WARNING checkpoint step-\d+-a0001 not saved: .*; training goes on, the last good checkpoint stays")
    failed = job.text.count("not saved")
    kept = training.checkpoints()
    psutil.Process(job.pid).rlimit(psutil.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    assert failed
    assert kept
    job.wait_for(rf"(?s)WARNING.*^saved step-(?!{kept[-1][5:13]})")
    os.kill(job.pid, signal.SIGTERM)
    assert job.wait() == 75, job.text
    assert warm.command(training, "checkpoints", "verify", "runs/small").code == 0


def test_a_last_save_that_fails_is_a_failure(make_training: MakeTraining, warm: Warm) -> None:
    training = make_training(steps=400, batch={"micro_sequences": 1}, checkpoint={"every_steps": 2})
    (job,) = warm.workers(training)
    job.wait_for("^saved step-00000002")
    psutil.Process(job.pid).rlimit(psutil.RLIMIT_FSIZE, (200_000, resource.RLIM_INFINITY))
    os.kill(job.pid, signal.SIGTERM)
    assert job.wait() == 1
    newest = training.checkpoints()[-1]
    assert f"is lost, the newest checkpoint is {training.run}/checkpoints/{newest}" in job.text
    events = (training.run / "logs/a0001/events-000.jsonl").read_text().splitlines()
    assert {json.loads(line)["kind"] for line in events} == {"attempt", "checkpoint", "checkpoint_failed"}


def test_two_runs_on_one_store_path(make_training: MakeTraining, warm: Warm) -> None:
    training = make_training(steps=2000, batch={"micro_sequences": 1}, checkpoint={"every_steps": 2})
    (first,) = warm.workers(training)
    first.wait_for("^saved step-00000002")
    (second,) = warm.workers(training)
    second.wait_for("^saved ")
    # The older one stops at its next save, and writes no more.
    assert first.wait() == 1
    assert "belongs to attempt a0002 since" in first.text
    assert "attempt a0001 stops writing" in first.text
    os.kill(second.pid, signal.SIGTERM)
    assert second.wait() == 75, second.text
    newest = resolve_url(str(training.run))
    assert newest.attempt == 2
    assert newest.step == max(training.steps("a0002"))


@pytest.mark.slow
def test_on_s3_stopped_and_gone_on_with_the_answer_to_a_commit_lost(
    make_training: MakeTraining, start_server: Callable[[str], Server], warm: Warm
) -> None:
    server = start_server("s3")
    alone = make_training()
    assert warm.worker(alone).code == 0

    training = make_training(checkpoint={"store": f"{server.url}/losing"}, batch={"micro_sequences": 1})
    proxy = Proxy(server.port)
    environment = server.environment | s3_environment(proxy.port)
    ranks = warm.workers(training, ranks=2, environment=environment)
    ranks[0].wait_for("^step +3/")
    proxy.lose("COMMITTED.json")
    os.kill(ranks[0].pid, signal.SIGTERM)
    assert [rank.wait() for rank in ranks] == [75, 75], ranks[0].text
    assert proxy.lost == 1
    proxy.close()

    ended = warm.worker(training, environment=server.environment)
    assert ended.code == 0
    assert f"going on from {server.url}/losing/small/checkpoints/step-" in ended.text
    ended = warm.command(training, "checkpoints", "list", f"{server.url}/losing/small", environment=server.environment)
    assert ended.text.count("step-") == 2, ended.text
    shown = ["checkpoints", "show", "--json", f"{server.url}/losing/small"]
    ended = warm.command(training, *shown, environment=server.environment)
    assert json.loads(ended.text)["loss"] == pytest.approx(alone.steps()[24][0], abs=1e-5)


@pytest.mark.slow
def test_under_torchrun(training: Training) -> None:
    # The agent of torch in place of ours; a worker is one command.
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    process = training.start(*torchrun, "-m", "trainer", "worker", "run.yaml", "--set", "steps=4", program=())
    assert process.wait() == 0, process.text
    assert training.committed("step-00000004-a0001")["world_size"] == 2
