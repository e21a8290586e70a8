"""The .metadata of a checkpoint of 8, 128 and 1,024 ranks: bytes, seconds to plan, write and read. No data is written.

    python -m benchmarks.checkpoint_metadata [--worlds N ...] [--json]

The tensors are those of the preset `neox-1.4b` with AdamW's moments, sharded by FSDP2 in torch's fake process group.
Each rank's plan comes from the planner that saves use, rank 0 puts them together and writes the file through the
writer that saves use, as if every tensor had arrived, and the reader that restores use reads it and plans what rank 0
would read. All on one core, where ranks would plan at the same time; what is sent between them is counted as pickled
bytes. `hybrid` shards within machines of eight and copies between them, so its metadata is that of eight ranks.
"""

from __future__ import annotations

import json
import os
import pickle
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.common import hardware, in_own_process, memory_megabytes
from benchmarks.worlds import GPUS_OF_A_NODE, PRESET, options

STREAMS = 4


def main() -> None:
    asked = options(__doc__)
    cases = [("full", world) for world in asked.worlds] + [("hybrid", max(asked.worlds))]
    results = [in_own_process(measure, *case) for case in cases]
    report = {"preset": PRESET, "hardware": hardware(), "results": results}
    if asked.json:
        print(json.dumps(report))
        return
    for result in results:
        print(
            f"{result['world_size']:5} ranks, {result['shard']:6}: {result['metadata_bytes'] / 1e6:.2f} MB of "
            f"{result['shards']:,} shards; a rank plans in {result['local_seconds']:.3f} s and sends "
            f"{result['plan_bytes'] / 1e3:.0f} kB, rank 0 puts all together in {result['global_seconds']:.1f} s and "
            f"writes in {result['write_seconds']:.1f} s ({result['write_peak_megabytes']:.0f} MB); a rank reads it in "
            f"{result['read_seconds']:.1f} s ({result['read_megabytes']:.0f} MB) and plans in "
            f"{result['load_plan_seconds']:.1f} s"
        )


def measure(shard: str, world_size: int) -> dict[str, Any]:
    """All figures of one world; a process of its own for each."""
    from benchmarks.checkpoint_plans import load_plan_seconds, local_plans, read_metadata, write_metadata

    planned = local_plans(PRESET, shard, world_size, GPUS_OF_A_NODE)
    with tempfile.TemporaryDirectory(prefix="gpt-run-bench-") as name:
        written = write_metadata(planned.plans, Path(name), STREAMS)
        peak = memory_megabytes(os.getpid(), "VmHWM") - planned.megabytes_before
        # In a process of its own again: what it costs a rank that has planned nothing.
        read_seconds, read_megabytes = in_own_process(read_metadata, name)
        return {
            "shard": shard,
            "world_size": world_size,
            "shards": written.shards,
            "metadata_bytes": written.size,
            "local_seconds": planned.seconds,
            "plan_bytes": len(pickle.dumps(planned.plans[-1])),
            "global_seconds": written.plan_seconds,
            "write_seconds": written.write_seconds,
            "write_peak_megabytes": peak,
            "read_seconds": read_seconds,
            "read_megabytes": read_megabytes,
            "load_plan_seconds": load_plan_seconds(planned.tensors, name),
        }


if __name__ == "__main__":
    main()
