"""Start a run from the weights of a Hugging Face folder instead of random ones.

Called by `trainer.train.setup` where a run starts at step 0 and `initial_weights` names a folder.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from trainer.errors import UserError
from trainer.model.config import ModelConfig
from trainer.model.decoder import Decoder
from trainer.model.hf import import_hf
from trainer.model.init import copy_full_

# What does not change the function that given weights compute, or only its training.
_FREE_KEYS = frozenset({"context", "vocab_multiple", "dropout", "init", "init_std"})


def load_initial_weights(model: Decoder, config: ModelConfig, folder: str) -> None:
    """Copy the weights in `folder` into `model`, whole or sharded; UserError where they are of another model."""
    found, tensors = import_hf(Path(folder))
    _require_same_model(config, found, folder)
    for compiled_name, parameter in model.named_parameters():
        name = compiled_name.replace("_orig_mod.", "")
        copy_full_(parameter, _fit_rows(tensors.pop(name), parameter.shape, name, folder))


def _require_same_model(config: ModelConfig, found: ModelConfig, folder: str) -> None:
    ours, theirs = config.model_dump(), found.model_dump()
    changed = [
        f"model.{key}: {ours[key]!r}, there {theirs.get(key)!r}"
        for key in ours
        if key not in _FREE_KEYS and ours[key] != theirs.get(key)
    ]
    if changed:
        raise UserError(
            f"initial_weights: {folder} is another model ({'; '.join(changed)})",
            expected="the same architecture and sizes as `model`",
            fix="set `model` as in the folder's config.json, or choose another folder",
        )


def _fit_rows(full: Tensor, shape: torch.Size, name: str, folder: str) -> Tensor:
    """Padding rows of the vocabulary are zero; learned positions may be a prefix of those in the folder."""
    if full.shape == shape:
        return full
    if name == "positions.weight" and full.shape[0] > shape[0]:
        return full[: shape[0]]
    if name in ("embed.weight", "head.weight") and full.shape[0] < shape[0]:
        return torch.cat([full, full.new_zeros(shape[0] - full.shape[0], full.shape[1])])
    raise UserError(
        f"initial_weights: {name} has shape {tuple(full.shape)} in {folder}",
        expected=f"{tuple(shape)}, by `model`",
        fix="set model.context and model.vocab_size as in the folder's config.json",
    )
