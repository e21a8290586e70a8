"""The worlds that rank_setup.py and checkpoint_metadata.py stand in for on one machine, and their options."""

from __future__ import annotations

import argparse

PRESET = "neox-1.4b"
"""The largest model of the presets."""
GPUS_OF_A_NODE = 8
_WORLD_SIZES = (8, 128, 1024)


def options(description: str | None) -> argparse.Namespace:
    """`worlds`, numbers of ranks, and `json` from the command line."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--worlds", type=int, nargs="+", default=_WORLD_SIZES, help="numbers of ranks (default 8 128 1024)"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    return parser.parse_args()


def enter_fake_group(rank: int, world_size: int) -> None:
    """Be that rank of torch's fake process group, in the place of what this process was before."""
    import torch.distributed as dist
    from torch.testing._internal.distributed.fake_pg import FakeStore

    if dist.is_initialized():
        dist.destroy_process_group()
    dist.init_process_group("fake", rank=rank, world_size=world_size, store=FakeStore())
