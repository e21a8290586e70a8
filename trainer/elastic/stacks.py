"""Stacks of hung workers into the run's store, from a process of its own: the store may be what hangs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from trainer.checkpoint.attempts import claim_numbers
from trainer.checkpoint.layout import attempt_name
from trainer.checkpoint.store import open_run
from trainer.config_file import load_run_config


def upload(reference: str, overrides: Sequence[str], round_number: int, stacks: Mapping[int, str]) -> int:
    """Write `logs/<newest attempt>/stacks-<round>-<rank>.txt` for each rank."""
    config = load_run_config(reference, overrides)
    run = open_run(config.checkpoint.store, config.name)
    numbers = claim_numbers(run)
    folder = f"logs/{attempt_name(numbers[-1]) if numbers else 'before-the-first-attempt'}"
    for rank, text in stacks.items():
        run.replace(f"{folder}/stacks-{round_number:04d}-{rank:05d}.txt", text.encode())
    return 0
