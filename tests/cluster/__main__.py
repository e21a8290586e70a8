"""`python -m tests.cluster up|down|status`: the test cluster on this machine.

Needs root, Go and apt. Caches lie in ~/.cache/gpt-run (XDG_CACHE_HOME): cluster-tools holds compiled programs, cluster
what nodes keep of images.
"""

from __future__ import annotations

import argparse
import sys

from tests.cluster import bringup, layout
from tests.cluster.tools import ToolMissing


def main() -> None:
    """Do what the command line says."""
    summary, _, details = (__doc__ or "").partition("\n\n")
    parser = argparse.ArgumentParser(prog="python -m tests.cluster", description=summary, epilog=details)
    parser.add_argument(
        "command", choices=["up", "down", "status"], help="bring the cluster up, take it down, or say how it is"
    )
    command = parser.parse_args().command
    try:
        if command == "up":
            bringup.up()
        elif command == "down":
            bringup.down()
        else:
            show_status()
    except ToolMissing as error:
        sys.exit(f"no cluster on this machine: {error}")


def show_status() -> None:
    """Print what runs; exit code 1 unless the cluster is up."""
    for name, state in bringup.status().items():
        print(f"{name:24} {state}")
    if not bringup.is_up():
        sys.exit("the cluster is not up")
    print(f"up: kubectl --kubeconfig {layout.KUBECONFIG}")


if __name__ == "__main__":
    main()
