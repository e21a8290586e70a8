"""The test cluster as the place of a campaign: the platform's chart, an S3 server, and room for one run at a time.

The S3 server keeps objects as files, so a run's store is read as one on a disk is.
"""

from __future__ import annotations

import contextlib
import secrets
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

from tests.cluster import bringup, control_plane, layout
from tests.cluster.addons import DESCRIPTION
from tests.cluster.client import Cluster
from tests.cluster.machines import wait_until
from tests.cluster.platform import installed
from tests.cluster.store import S3
from tests.cluster.tools import ToolMissing
from tests.faults.cluster_stage import PREFIX, ClusterStage
from tests.faults.plan import Plan, Store
from tests.faults.where import Alone

_ALONE_SECONDS = 600.0


class OnCluster:
    """The cluster with the platform's chart, and a data set on its S3 server, for runs that come one after another."""

    def __init__(self, folder: Path, data: Path) -> None:
        """data: a prepared set."""
        bringup.up()  # brings the image of the sources as they are to the cluster that runs
        self.machines = bringup.machines()
        self.cluster = Cluster(layout.KUBECONFIG, folder / "kubectl-cache")
        described = self.cluster.secret("default", DESCRIPTION)
        assert described is not None
        self.image = described["image"]
        self.s3 = S3(described["s3-endpoint"], described["s3-access-key"], described["s3-secret-key"])
        self._clear()
        self._stack = contextlib.ExitStack()
        self._stack.enter_context(installed(self.cluster))
        bucket = self._stack.enter_context(self.bucket())
        self.s3.filesystem.put(str(data), f"{bucket}/data", recursive=True)
        self.data = f"s3://{bucket}/data"

    @staticmethod
    def none_here() -> str | None:
        """Why there is no cluster to play on; None if there is one."""
        try:
            bringup.check_machine()
        except ToolMissing as missing:
            return str(missing)
        return None if bringup.is_up() else "no cluster is up; bring it up with: make cluster-up"

    def close(self) -> None:
        """Take the platform's chart and the data set away."""
        self._stack.close()

    def cannot(self, plan: Plan) -> str | None:
        return None

    def _clear(self) -> None:
        """Remove what a campaign that was killed has left."""
        names = self.cluster.kubectl("get", "namespaces", "--output=name").split()
        if left := [name for name in names if name.startswith(f"namespace/{PREFIX}")]:
            self.cluster.kubectl("delete", "--timeout=120s", *left)
        for folder in control_plane.S3_DATA.glob(f"{PREFIX}*"):
            shutil.rmtree(folder)

    @contextlib.contextmanager
    def stage(self, plan: Plan, folder: Path, alone: Alone | None) -> Iterator[ClusterStage]:
        shutil.rmtree(folder, ignore_errors=True)
        with contextlib.ExitStack() as stack:
            stack.callback(shutil.rmtree, folder, ignore_errors=True)
            yield ClusterStage(self, plan, folder, stack)

    def alone(self, folder: Path, *, ranks: int, dropout: float) -> Alone:
        began = time.monotonic()
        with self.stage(left_alone(ranks, dropout), folder, None) as stage:
            stage.start_missing()
            wait_until(lambda: stage.ended() is not None, _ALONE_SECONDS, "the run left alone does not end")
            if stage.ended() != 0 or (left := stage.left_behind()):
                raise RuntimeError(f"the run left alone failed:\n{stage.namespace.dump()}\n{left}")
            return Alone(stage.training.steps(), time.monotonic() - began)

    @contextlib.contextmanager
    def bucket(self) -> Iterator[str]:
        """A bucket, removed after the block."""
        name = f"{PREFIX}{secrets.token_hex(4)}"
        self.s3.filesystem.mkdir(name)
        try:
            yield name
        finally:
            shutil.rmtree(control_plane.S3_DATA / name, ignore_errors=True)


def left_alone(ranks: int, dropout: float) -> Plan:
    """A plan in which nothing happens."""
    return Plan(0, ranks, True, 1, True, Store.S3, True, True, dropout, (0,) * ranks, False, ())
