"""`task: evaluate`: the validation loss of one checkpoint, over all ranks. Claims nothing and writes nothing.

Called by the worker in place of the train loop. Only the weights are loaded, so a machine that could not train the
model can do it; there is nothing to save, so a signal ends it at once.
"""

from __future__ import annotations

from datetime import UTC, datetime

from trainer.checkpoint.layout import attempt_name
from trainer.checkpoint.load import Loaded, find_checkpoint
from trainer.checkpoint.ranks import Ranks
from trainer.checkpoint.store import open_run
from trainer.config import RunConfig
from trainer.errors import UserError
from trainer.evaluate.loss import evaluate_splits
from trainer.metrics.console import RunConsole
from trainer.model.decoder import Decoder
from trainer.parallel.precision import check_precision
from trainer.parallel.world import World
from trainer.settings import settings_sha256
from trainer.train.build import build_model
from trainer.train.datasets import open_data
from trainer.train.initial_weights import load_checkpoint_weights


def evaluate_checkpoint(config: RunConfig, world: World) -> None:
    """Print the validation loss of the checkpoint that `config.resume` names. Collective."""
    check_precision(config.precision, world.device)
    data = open_data(config)
    model = build_model(config, world, data)
    loaded = _load_weights(config, world, model)
    committed = loaded.committed
    console = RunConsole(total_steps=committed.step, first_step=committed.step, rank=world.rank)
    try:
        evaluation = evaluate_splits(
            model,
            data.validation,
            sequences=config.evaluate.sequences,
            micro_sequences=config.batch.micro_sequences,
            rank=world.rank,
            world_size=world.world_size,
            device=world.device,
            stop_requested=lambda: False,
        )
        assert evaluation is not None
        console.say(f"{loaded.checkpoint.url}: validation over {evaluation.sequences} sequences")
        console.metrics(
            {
                "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
                "run": committed.run,
                "attempt": attempt_name(committed.attempt),
                "step": committed.step,
                "tokens": committed.tokens,
                "epoch": committed.epoch,
                **evaluation.figures(),
            }
        )
    finally:
        console.close()


def _load_weights(config: RunConfig, world: World, model: Decoder) -> Loaded:
    run_store = open_run(config.checkpoint.store, config.name)
    ranks = Ranks(world.save_group)
    resolved = ranks.on_first(lambda: find_checkpoint(run_store, config.resume))
    if resolved is None:
        raise UserError(
            f"{run_store.url} holds no checkpoint to evaluate",
            expected="a run that has saved, or `resume` with the URL of a checkpoint",
            fix="train first, or name the checkpoint: --set resume=URL",
        )
    return load_checkpoint_weights(model, config, world, resolved, settings_sha256(config.model))
