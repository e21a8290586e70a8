"""The plain worker under Ray Train, on a cluster of its own on this machine.

    python -m benchmarks.compare.recovery_ray FOLDER

Settings as its guide to fault tolerance has them, and its best for this: failures are noticed within half a second.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from trainer.ray.cluster import connected

WORLD = 2


def main() -> None:
    folder = Path(sys.argv[1])
    # Makes a cluster as `gpt-run ray` does, with the settings that suit training on one machine.
    with connected(WORLD), tempfile.TemporaryDirectory() as storage:
        from ray.train import FailureConfig, RunConfig, ScalingConfig
        from ray.train.torch import TorchConfig, TorchTrainer

        TorchTrainer(
            worker,
            train_loop_config={"folder": str(folder)},
            torch_config=TorchConfig(backend="gloo"),
            scaling_config=ScalingConfig(num_workers=WORLD),
            run_config=RunConfig(name="run", storage_path=storage, failure_config=FailureConfig(max_failures=-1)),
        ).fit()


def worker(config: dict[str, str]) -> None:
    """In a worker of Ray's. Saves stay where they are: a folder that all workers reach, as its guide allows."""
    from benchmarks.compare.plain_worker import train

    train(Path(config["folder"]))


if __name__ == "__main__":
    main()
