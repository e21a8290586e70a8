"""What a run must carry from one attempt to the next, and how it gets into and out of a checkpoint.

Tensors (model, moments) go through torch's distributed checkpoint and reshard to any world size; `Progress` is the same
on every rank and goes as JSON; random-number state belongs to a rank and is put back only at the same world size.
"""

from __future__ import annotations

import base64
import json
from collections import deque
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch.distributed.checkpoint.state_dict import get_state_dict, set_state_dict

from trainer.config import RunConfig
from trainer.model.decoder import Decoder
from trainer.settings import what_counts
from trainer.train.optimizer import Optimizers

# Log lines kept in a checkpoint: whoever has that alone still has the newest part of the curve.
_HISTORY_LINES = 2000
# What decides which sequences a step reads. A key that is added here is marked `Added` where it is defined.
ORDER_KEYS = ("batch.sequences", "sequence_length", "seed", "data.shuffle_group_bytes")


@dataclass
class Progress:
    """Where a run stands; everything that is a number of the whole run."""

    step: int = 0
    """Optimizer steps taken; also the position in the data, for batches of a fixed size."""
    tokens: int = 0
    """Training tokens seen."""
    epoch: float = 0.0
    """Passes over the training set."""
    loss: float = float("nan")
    """Loss of the newest step."""
    validation_loss: float | None = None
    """Newest validation loss."""
    best_validation_loss: float | None = None
    evaluations_without_improvement: int = 0
    initial_general_loss: float | None = None
    """Of a fine-tuning at step 0: the loss on the sets that the model knew before."""
    loss_scale: float | None = None
    """Loss scale of fp16."""
    loss_scale_good_steps: int = 0
    nonfinite_steps: int = 0
    """Steps skipped for a loss or gradient that was not finite, over the whole run."""
    train_seconds: float = 0.0
    """Time spent in steps, over the whole run."""
    goodput: dict[str, Any] | None = None
    """The run's account of time at the newest snapshot, as `trainer.metrics.goodput.Ledger` writes it."""
    teacher: dict[str, str] | None = None
    """Who teaches the run: reference, url and sha256."""
    loss_history: deque[tuple[int, float]] = field(default_factory=lambda: deque(maxlen=_HISTORY_LINES))
    """(step, loss) of the newest logging intervals."""

    def to_json(self) -> dict[str, Any]:
        """As written to progress.json."""
        return {**asdict(self), "loss_history": [list(entry) for entry in self.loss_history]}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Progress:
        """From progress.json; keys of newer versions are ignored."""
        known = {key: value for key, value in data.items() if key in cls.__dataclass_fields__}
        history = deque(((int(step), float(loss)) for step, loss in known.pop("loss_history", [])), _HISTORY_LINES)
        return cls(**known, loss_history=history)


def data_order(config: RunConfig) -> dict[str, Any]:
    """The settings that decide which sequences a step reads, by key; kept in progress.json, never to change.

    A key that came later is left out while it says what was done before (`trainer.settings.Added`), and so is null:
    checkpoints from before it compare equal then.
    """
    settings = what_counts(config)
    found = {key: _at(settings, key) for key in ORDER_KEYS}
    return {key: value for key, value in found.items() if value is not None}


def _at(settings: dict[str, Any], key: str) -> Any:
    """The value at a dotted key; None where there is none."""
    section: Any = settings
    for part in key.split("."):
        section = section.get(part) if isinstance(section, dict) else None
    return section


def tensors_of(model: Decoder, optimizers: Optimizers) -> dict[str, Any]:
    """The nested state dict that a checkpoint holds: {"model": {name: tensor}, "optimizer": {name: {moment: tensor}}}.

    Tensors only: hyperparameters come from the config, and plain values would have to be pickled.
    """
    model_state, optimizer_state = get_state_dict(model, optimizers.optimizers)
    return {"model": model_state, "optimizer": optimizer_state["state"]}


def restore_tensors(model: Decoder, optimizers: Optimizers, tensors: dict[str, Any]) -> None:
    """Put a loaded state dict back; hyperparameters stay those of the config, so a run may be resumed with new ones."""
    _, optimizer_state = get_state_dict(model, optimizers.optimizers)
    set_state_dict(
        model,
        optimizers.optimizers,
        model_state_dict=tensors["model"],
        optim_state_dict={**optimizer_state, "state": tensors["optimizer"]},
    )


def random_state(device: torch.device) -> bytes:
    """This rank's random-number state."""
    state = {"cpu": _encode(torch.get_rng_state())}
    if device.type == "cuda":
        state["cuda"] = _encode(torch.cuda.get_rng_state(device))
    return json.dumps(state).encode()


def restore_random_state(data: bytes, device: torch.device) -> None:
    """Put back what `random_state` gave."""
    state = json.loads(data)
    torch.set_rng_state(_decode(state["cpu"]))
    if device.type == "cuda" and "cuda" in state:
        torch.cuda.set_rng_state(_decode(state["cuda"]), device)


def _encode(state: torch.Tensor) -> str:
    return base64.b64encode(state.numpy().tobytes()).decode()


def _decode(text: str) -> torch.Tensor:
    return torch.frombuffer(bytearray(base64.b64decode(text)), dtype=torch.uint8)
