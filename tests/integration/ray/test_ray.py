"""`gpt-run ray` on a real Ray cluster: the same losses, and nothing lost to what comes and goes."""

from __future__ import annotations

import json

import pytest

from tests.integration.ray.conftest import TEST_SECONDS, WAIT_SECONDS, Cluster, MakeRun
from tests.integration.training import wait_until

pytestmark = [pytest.mark.ray, pytest.mark.timeout(TEST_SECONDS)]

# Steps of some tens of milliseconds, and a commit after every tenth.
LONG = {"steps": 100_000, "optimizer": {"lr": 3e-4}, "checkpoint": {"every_steps": 10, "keep": {"rolling": 1000}}}


def test_the_losses_are_those_of_the_launcher(make_run: MakeRun) -> None:
    alone, run = make_run(), make_run()
    launched = alone.train(nproc=2)
    assert launched.wait() == 0, launched.text
    driver = run.ray(workers="2")
    assert driver.wait() == 0, driver.text
    assert run.steps() == alone.steps()
    assert run.checkpoints() == alone.checkpoints()
    assert run.claims()[0]["world_size"] == 2
    assert "finished at step 24 of 24" in driver.text


def test_a_killed_worker_costs_no_committed_step_and_sigterm_none_at_all(make_run: MakeRun, cluster: Cluster) -> None:
    run = make_run(**LONG, seed=1)
    driver = run.ray(workers="1:2")
    run.wait_for_steps("a0001", 25)
    committed = run.checkpoints()[-1]
    cluster.workers()[1].kill()
    run.wait_for_steps("a0002", 5)
    # The store may know it before the driver does.
    wait_until(lambda: run.status()["phase"] == "training")
    page = run.status()
    assert (page["attempt"], page["world_size"]) == ("a0002", 2)
    assert page["restarts"] == {"WorkerFailed": 1}
    assert page["last_error"]["reason"] == "WorkerFailed"
    driver.popen.terminate()
    assert driver.wait() == 75, driver.text
    # Rank 0's summary, which Ray carries here.
    assert "go on:      gpt-run ray run.yaml --workers 1:2" in driver.text

    second = run.claims()[1]
    assert second["base_checkpoint"] >= committed
    assert (second["previous_end"]["reason"], second["previous_end"]["counted"]) == ("WorkerFailed", True)
    last = max(run.steps("a0002"))
    assert run.checkpoints()[-1] == f"step-{last:08d}-a0002"

    # What a user did wrong is said once, and not tried again.
    wrong = run.ray("seed=5", workers="2")
    assert wrong.wait() == 2, wrong.text
    assert wrong.text.count("seed: 1 -> 5") == 1, wrong.text
    assert len(run.claims()) == 2


def test_of_two_drivers_the_newer_has_the_run(make_run: MakeRun) -> None:
    run = make_run(**LONG)
    older = run.ray()
    run.wait_for_steps("a0001", 15)
    newer = run.ray("log.every_steps=1")
    run.wait_for_steps("a0002", 25)
    assert older.wait() == 1, older.text
    assert "belongs to attempt a0002" in older.text
    newer.popen.terminate()
    assert newer.wait() == 75, newer.text
    assert [claim["attempt"] for claim in run.claims()] == [1, 2]
    began = json.loads((run.run / "checkpoints" / run.claims()[1]["base_checkpoint"] / "COMMITTED.json").read_text())
    later = [name for name in run.checkpoints() if int(name[5:13]) > began["step"] + 20]
    assert later
    assert {name[-5:] for name in later} == {"a0002"}


def test_a_run_follows_the_cluster(make_run: MakeRun) -> None:
    small = Cluster()
    try:
        small.start()
        small.add_node(1)
        run = make_run(on=small, **LONG)
        driver = run.ray(workers="1:2")
        run.wait_for_steps("a0001", 5)
        guest = small.add_node(1)
        run.wait_for_steps("a0002", 5)
        guest.terminate()
        run.wait_for_steps("a0003", 5)
        assert guest.wait(WAIT_SECONDS) is not None
        driver.popen.terminate()
        assert driver.wait() == 75, driver.text
    finally:
        small.end()
    claims = run.claims()
    assert [claim["world_size"] for claim in claims] == [1, 2, 1]
    assert [claim["previous_end"]["reason"] for claim in claims[1:]] == ["Scaled", "Preempted"]
    for before, after in (("a0001", "a0002"), ("a0002", "a0003")):
        assert max(run.steps(before)) + 1 == min(run.steps(after))
