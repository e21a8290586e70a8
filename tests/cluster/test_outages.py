"""What a run needs and does not have for a while: the S3 server, DNS. Training goes on, and saves come after all."""

from __future__ import annotations

import socket
import time
from collections.abc import Mapping
from urllib.parse import urlsplit

from tests.cluster import control_plane, layout
from tests.cluster.client import Namespace, Object
from tests.cluster.conftest import MakeRun
from tests.cluster.machines import Machine, wait_until
from tests.cluster.runs import Run
from tests.cluster.store import S3, pauses

# Clients try a request again for most of a minute, so that a shorter one costs no save.
S3_OUTAGE_SECONDS = 100
DNS_OUTAGE_SECONDS = 30
SAVE_SECONDS = 300


def test_training_goes_on_without_the_s3_server_and_is_saved_after_all(
    make_run: MakeRun, machines: Mapping[str, Machine]
) -> None:
    run = make_run(run=saved_every(10))
    run.wait_for_world(2)
    wait_for_save(run, beyond=0)

    take_away(run, machines["control"], "versitygw", S3_OUTAGE_SECONDS)
    wait_until(lambda: listens(run.store.s3), 30, "the S3 server is not back")
    wait_for_save(run, beyond=run.told("step"))

    metrics = run.namespace.service(f"{run.name}-coordinator", "http", "metrics").splitlines()
    (failures,) = (line for line in metrics if line.startswith("trainer_checkpoint_failures_total"))
    print(failures)
    assert float(failures.split()[1]) >= 1
    assert_all_went_on(run)


def test_training_goes_on_without_dns(
    make_run: MakeRun, namespace: Namespace, s3: S3, machines: Mapping[str, Machine]
) -> None:
    namespace.apply(named("s3", s3))
    endpoint = f"http://s3.{namespace.name}.svc.{layout.CLUSTER_DOMAIN}:{urlsplit(s3.endpoint).port}"
    run = make_run(run=saved_every(10), store={"env": [{"name": "AWS_ENDPOINT_URL", "value": endpoint}]})
    run.wait_for_world(2)
    wait_for_save(run, beyond=0)

    take_away(run, machines["control"], "coredns", DNS_OUTAGE_SECONDS)
    wait_for_save(run, beyond=run.told("step"))

    assert_all_went_on(run)


def saved_every(seconds: float) -> Object:
    """A run that goes on until the test is over."""
    return {"steps": 100_000, "checkpoint": {"every_seconds": seconds}}


def named(name: str, s3: S3) -> list[Object]:
    """A Service by which pods find the S3 server through DNS."""
    address = urlsplit(s3.endpoint)
    ports = [{"name": "http", "port": address.port}]
    labels = {"kubernetes.io/service-name": name}
    return [
        {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": {"ports": ports}},
        {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {"name": name, "labels": labels},
            "addressType": "IPv4",
            "endpoints": [{"addresses": [address.hostname]}],
            "ports": ports,
        },
    ]


def take_away(run: Run, control: Machine, program: str, seconds: float) -> None:
    """Stop a program of the control machine for a while, in which steps are taken."""
    before = run.told("step")
    control_plane.stop(control, program)
    time.sleep(seconds)
    after = run.told("step")
    control_plane.start(control, program)
    print(f"{after - before} steps within {seconds:g} s without {program}")
    assert after > before


def wait_for_save(run: Run, beyond: int) -> None:
    """Wait for a checkpoint of a later step."""

    def saved() -> bool:
        checkpoints = run.store.checkpoints()
        return bool(checkpoints) and checkpoints[-1]["step"] > beyond

    run.namespace.wait(f"a checkpoint beyond step {beyond}", SAVE_SECONDS, saved)


def assert_all_went_on(run: Run) -> None:
    """No step was lost or done again, no attempt ended, and the store has the whole log in the end."""
    logs = [run.namespace.log(name) for name in run.running_workers()]
    warnings = [line for log in logs for line in log.splitlines() if "WARNING" in line]
    print(f"{len(warnings)} warnings", *warnings, sep="\n  ")
    records = run.printed()
    assert [record["step"] for record in records] == list(range(1, len(records) + 1))
    print(f"longest time from one step to the next {max(pauses(records)):.1f} s")
    assert run.status()["restarts"] == {}

    run.remove()
    assert len(run.store.claims()) == 1
    stored = sorted(run.store.steps())
    assert stored == list(range(1, run.store.checkpoints()[-1]["step"] + 1))


def listens(s3: S3) -> bool:
    """Whether the S3 server takes connections."""
    address = urlsplit(s3.endpoint)
    try:
        socket.create_connection((address.hostname, address.port), timeout=1).close()
    except OSError:
        return False
    return True
