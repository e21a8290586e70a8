"""Fixtures of cluster tests: a cluster, a namespace and a bucket for each test, a data set for all.

`GPTRUN_TEST_KUBECONFIG` names another cluster's kubeconfig; a Secret `gpt-run-test` in its namespace `default` must say
what pods use there (`image`, `s3-endpoint`, `s3-access-key`, `s3-secret-key`). Otherwise the test cluster is used; one
that is not up is brought up, and taken away at the end.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cluster import bringup, layout, runs
from tests.cluster.addons import DESCRIPTION
from tests.cluster.client import Cluster, Namespace, Object
from tests.cluster.machines import Machine, wait_until
from tests.cluster.platform import Platform, installed
from tests.cluster.store import S3, Store
from tests.cluster.tools import ToolMissing
from tests.integration.training import prepare

HERE = Path(__file__).parent
KUBECONFIG = "GPTRUN_TEST_KUBECONFIG"
# A cold bring-up compiles a control plane.
BRINGUP_SECONDS = 40 * 60
REMOVE_SECONDS = 60
FAILED = pytest.StashKey[bool]()
MakeRun = Callable[..., runs.Run]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whatever uses the cluster is marked so; its first test may have to wait for the bring-up."""
    for item in items:
        if HERE in item.path.parents and "cluster" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.cluster)
            item.add_marker(pytest.mark.timeout(BRINGUP_SECONDS))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Remember on the test whether it has failed."""
    report = yield
    item.stash[FAILED] = item.stash.get(FAILED, False) or report.failed
    return report


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """The cluster; a machine that has none and can have none skips the test and says why."""
    cache = tmp_path_factory.mktemp("kubectl-cache")
    other = os.environ.get(KUBECONFIG)
    if other:
        yield Cluster(Path(other), cache)
        return
    try:
        was_up = bringup.is_up()
        bringup.up()
    except ToolMissing as error:
        pytest.skip(f"no cluster on this machine: {error}")
    yield Cluster(layout.KUBECONFIG, cache)
    if not was_up:
        bringup.down()


@pytest.fixture(scope="session")
def description(cluster: Cluster) -> dict[str, str]:
    """What the cluster's owner says about it."""
    found = cluster.secret("default", DESCRIPTION)
    if found is None:
        pytest.skip(f"the cluster of {KUBECONFIG} has no Secret {DESCRIPTION} in its namespace `default`")
    return found


@pytest.fixture(scope="session")
def s3(description: dict[str, str]) -> S3:
    """The S3 server."""
    return S3(description["s3-endpoint"], description["s3-access-key"], description["s3-secret-key"])


@pytest.fixture(scope="session")
def dataset(s3: S3, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URL of a prepared set of Python sources with a validation split."""
    bucket = f"data-{secrets.token_hex(4)}"
    s3.filesystem.mkdir(bucket)
    s3.filesystem.put(str(prepare(tmp_path_factory.mktemp("data"))), f"{bucket}/small", recursive=True)
    yield f"s3://{bucket}/small"
    s3.filesystem.rm(bucket, recursive=True)


@pytest.fixture(scope="module")
def platform(cluster: Cluster) -> Iterator[Platform]:
    """The platform's chart with the operator."""
    with installed(cluster) as made:
        yield made


@pytest.fixture
def namespace(cluster: Cluster, request: pytest.FixtureRequest) -> Iterator[Namespace]:
    """A namespace of the test's own, whose state is printed if the test fails."""
    if "bucket" in request.fixturenames:
        # First, and so removed last: its pods write there.
        request.getfixturevalue("bucket")
    made = cluster.make_namespace(request.node.name.removeprefix("test_"))
    yield made
    if request.node.stash.get(FAILED, False):
        print(made.dump())
    made.delete()


@pytest.fixture
def machines(cluster: Cluster) -> Iterator[dict[str, Machine]]:
    """The machines of the cluster, for tests that stop something on them; all is started again at the end.

    Ask for it after fixtures that need the cluster for their own end.
    """
    if os.environ.get(KUBECONFIG):
        pytest.skip(f"stops machines or their programs, which is not done to the cluster of {KUBECONFIG}")
    yield bringup.machines()
    bringup.repair()


@pytest.fixture
def bucket(s3: S3) -> Iterator[str]:
    """A bucket of the test's own."""
    name = f"test-{secrets.token_hex(4)}"
    s3.filesystem.mkdir(name)
    yield name

    def removed() -> bool:
        try:
            s3.filesystem.rm(name, recursive=True)
        except OSError:  # not empty: workers save when they are told to go
            return False
        return True

    wait_until(removed, REMOVE_SECONDS, f"bucket {name} does not stay empty")


@pytest.fixture
def make_run(namespace: Namespace, bucket: str, s3: S3, dataset: str, description: dict[str, str]) -> MakeRun:
    """Install a run: `make_run("demo", workers=(2, 1, 3), run={"steps": 100})`; keywords are values of the chart."""

    def make(
        name: str = "demo", *, workers: tuple[int, int, int] = (2, 1, 3), run: Object | None = None, **values: Any
    ) -> runs.Run:
        settings = runs.settings(dataset, run or {})
        return runs.install(namespace, Store(s3, bucket, name), description["image"], settings, workers, **values)

    return make
