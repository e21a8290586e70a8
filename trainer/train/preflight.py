"""`gpt-run preflight`: what the user can have got wrong, looked at before a GPU is taken.

The same checks as a worker makes before it claims its attempt, on one CPU: the data, the store and the right to write
there, and whether the run can go on from what the store holds. Nothing is claimed.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass

from trainer.checkpoint.load import find_checkpoint, read_progress, require_model
from trainer.checkpoint.ranks import Ranks
from trainer.checkpoint.references import resume_reference
from trainer.checkpoint.store import Store, open_run
from trainer.config import RunConfig, total_steps
from trainer.metrics.trackers.start import check_trackers
from trainer.train.datasets import open_data
from trainer.train.initial_weights import find_initial_weights
from trainer.train.restore import check_order_unchanged, check_same_data
from trainer.train.setup import check_ranks, identify
from trainer.train.teacher import find_teaching


@dataclass(frozen=True)
class Preflight:
    """What was found; everything fits."""

    run: str
    steps: int
    tokens: int
    """Of the training sets, all sources together."""
    store: str
    """URL of the run's folder."""
    checkpoint: str | None
    """URL of the checkpoint that the run will go on from."""

    def lines(self) -> list[str]:
        """For people."""
        return [
            f"ok: run {self.run}, {self.steps} steps",
            f"ok: {self.tokens} training tokens, all shards are there",
            f"ok: {self.store} can be written",
            f"ok: {f'goes on from {self.checkpoint}' if self.checkpoint else 'starts at step 0'}",
        ]


def preflight(config: RunConfig, *, ranks: int) -> Preflight:
    """Look at everything that needs no GPU. UserError for the first thing that does not fit."""
    check_ranks(config, ranks)
    check_trackers(config.trackers)
    data = open_data(config)
    run_store = open_run(config.checkpoint.store, config.name)
    run_store.require_root()
    find_teaching(config, run_store, data, Ranks(None))
    identity = identify(config, data)
    reference = resume_reference(run_store, config.resume, identity.hashes.config_sha256)
    resolved = find_checkpoint(run_store, reference) if reference != "none" else None
    checkpoint = None
    if resolved is not None:
        checkpoint, progress = read_progress(resolved)
        require_model(checkpoint, identity.hashes.model_sha256)
        check_same_data(checkpoint, identity)
        check_order_unchanged(config, checkpoint, progress)
    elif config.initial_weights is not None:
        find_initial_weights(config.initial_weights, config.model, data.tokenizer)
    _try_to_write(run_store)
    return Preflight(
        run=config.name,
        steps=total_steps(config, data.samples),
        tokens=sum(split.num_tokens for split in data.train),
        store=run_store.url,
        checkpoint=checkpoint.url if checkpoint else None,
    )


def _try_to_write(run_store: Store) -> None:
    """Write a small file as a claim is written, and take it away again."""
    path = f"preflight-{uuid.uuid4().hex}.json"
    run_store.write_once(path, b"{}")
    run_store.remove(path)
