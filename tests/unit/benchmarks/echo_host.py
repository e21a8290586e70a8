"""A side of a comparison that answers with what it was told; one job ends it, one never does."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable

from benchmarks.hosts import Answer, Job, serve


def prepare() -> Callable[[Job], Answer]:
    # As libraries do, to a stream that is not theirs.
    print("a line of a library")
    return work


def work(job: Job) -> Answer:
    if job.get("end"):
        sys.exit("no more")
    if job.get("stuck"):
        time.sleep(3600)
    return {**job, "rank": os.environ.get("RANK"), "arguments": sys.argv[1:]}


if __name__ == "__main__":
    serve(prepare)
