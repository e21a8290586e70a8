"""A side of a comparison that answers with what it was told; one job ends it."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

from benchmarks.hosts import Answer, Job, serve


def prepare() -> Callable[[Job], Answer]:
    # As libraries do, to a stream that is not theirs.
    print("a line of a library")
    return work


def work(job: Job) -> Answer:
    if job.get("end"):
        sys.exit("no more")
    return {**job, "rank": os.environ.get("RANK"), "arguments": sys.argv[1:]}


if __name__ == "__main__":
    serve(prepare)
