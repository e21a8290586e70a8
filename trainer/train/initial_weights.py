"""Start a run from the weights of a Hugging Face folder or of a checkpoint instead of random ones.

Called by `trainer.train.setup` where a run starts at step 0, never where it goes on from a checkpoint of its own.
Weights are all that is taken: optimizer, schedule, data and random numbers begin anew. Those of a checkpoint are read
as a resumed run reads its own: each rank its part, sizes and hashes checked before use.
"""

from __future__ import annotations

import os
from collections.abc import Set as AbstractSet
from pathlib import Path

import torch
from pydantic import TypeAdapter
from torch import Tensor
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict, set_model_state_dict

from trainer.checkpoint.layout import CONFIG
from trainer.checkpoint.load import Loaded, find_checkpoint, load_checkpoint
from trainer.checkpoint.references import Resolved
from trainer.checkpoint.store import open_store
from trainer.config import RunConfig
from trainer.data.shards import TOKENIZER_FILE
from trainer.data.split import TokenizerInfo
from trainer.data.tokenizer import load_tokenizer, tokenizer_fingerprint
from trainer.elastic.workers import REPORT_FOLDER_VARIABLE
from trainer.errors import UserError
from trainer.evaluate.pretrained import adapters_of, checkpoint_settings, checkpoint_weights
from trainer.model.additions import is_addition
from trainer.model.config import ModelConfig
from trainer.model.decoder import Decoder
from trainer.model.hf import import_hf
from trainer.model.init import copy_full_
from trainer.parallel.world import World
from trainer.yaml_dialect import parse_yaml

# What does not change the function that given weights compute, or only its training.
_TRAINING_KEYS = frozenset({"dropout", "init", "init_std"})
_FOLDER_KEYS = _TRAINING_KEYS | {"context", "vocab_multiple"}


def find_initial_weights(reference: str, config: ModelConfig, tokenizer: TokenizerInfo | None) -> Resolved | None:
    """The checkpoint that `initial_weights` names, its sizes compared; None for a Hugging Face folder.

    tokenizer: of the training data. UserError where there is neither, and for another model or another tokenizer.
    """
    if (Path(reference) / "config.json").is_file():
        file = Path(reference) / TOKENIZER_FILE
        if tokenizer is not None and file.is_file() and not tokenizer.gives_ids_of(file):
            raise _another_tokenizer(str(file), tokenizer_fingerprint(load_tokenizer(file)), tokenizer)
        return None
    if "/" not in reference:
        raise UserError(
            f"initial_weights: {reference} is no folder with a config.json",
            expected="a Hugging Face folder, STORE/RUN (its newest checkpoint), STORE/RUN@best, or a checkpoint's URL",
            fix="correct the path; a run in the default store is runs/NAME",
        )
    resolved = find_checkpoint(open_store(reference.rpartition("@")[0] or reference), reference)
    assert resolved is not None, "only `latest` may find nothing"
    checkpoint = resolved.checkpoint
    raw = parse_yaml(checkpoint.store.read_bytes(CONFIG).decode(), source=checkpoint.store.url_of(CONFIG))
    assert isinstance(raw, dict)
    free = _TRAINING_KEYS | ({"context"} if config.positions != "learned" else set())
    _require_same_model(config, TypeAdapter(ModelConfig).validate_python(raw["model"]), checkpoint.url, free)
    theirs = checkpoint.committed.tokenizer_sha256
    if tokenizer is not None and theirs and theirs != tokenizer.fingerprint:
        raise _another_tokenizer(checkpoint.url, theirs, tokenizer)
    return resolved


def load_initial_weights(model: Decoder, config: RunConfig, world: World, resolved: Resolved | None) -> None:
    """Fill `model` with what `find_initial_weights` found on rank 0. Collective."""
    assert config.initial_weights is not None
    if resolved is None:
        load_folder(model, config.model, config.initial_weights)
    elif adapters_of(checkpoint_settings(resolved.checkpoint)[0]) is not None:
        # Whole on every rank, since adapters have to be merged.
        _copy_weights(model, checkpoint_weights(resolved.checkpoint).tensors, resolved.checkpoint.url)
    else:
        model_sha256 = resolved.checkpoint.committed.model_sha256
        load_checkpoint_weights(model, config, world, resolved, model_sha256, plain=True)


def load_checkpoint_weights(
    model: Decoder, config: RunConfig, world: World, resolved: Resolved, model_sha256: str, *, plain: bool = False
) -> Loaded:
    """Fill `model`, whole or sharded, with the weights of a checkpoint of a model of that hash, and no more of it.

    Of a `plain` one's; what the run adds to it (adapters, projections) stays as it is.
    """
    state = get_model_state_dict(model)
    tensors = {"model": {name: value for name, value in state.items() if not (plain and is_addition(name))}}
    loaded = load_checkpoint(
        resolved,
        tensors,
        model_sha256=model_sha256,
        group=world.save_group,
        streams=config.checkpoint.streams,
        local=config.checkpoint.local,
        scratch=os.environ.get(REPORT_FOLDER_VARIABLE),
    )
    set_model_state_dict(model, tensors["model"], options=StateDictOptions(strict=not plain))
    return loaded


def load_folder(model: Decoder, config: ModelConfig, folder: str) -> None:
    """Copy the weights in `folder` into `model`, whole or sharded; UserError where they are of another model."""
    found, tensors = import_hf(Path(folder))
    _require_same_model(config, found, folder, _FOLDER_KEYS)
    _copy_weights(model, tensors, folder)


def _copy_weights(model: Decoder, tensors: dict[str, Tensor], where: str) -> None:
    """Copy plain weights into the parameters of the same names; what the run adds to a model stays as it is."""
    for compiled_name, parameter in model.named_parameters():
        name = compiled_name.replace("_orig_mod.", "")
        if not is_addition(name):
            copy_full_(parameter, _fit_rows(tensors.pop(name), parameter.shape, name, where))


def _another_tokenizer(where: str, fingerprint: str, tokenizer: TokenizerInfo) -> UserError:
    return UserError(
        f"initial_weights: {where} has a tokenizer of fingerprint {fingerprint[:12]}..., data.train was made with "
        f"{tokenizer.name} ({tokenizer.fingerprint[:12]}...)",
        expected="data made with the model's tokenizer: the same id means another text in each",
        fix="prepare the data with the tokenizer of the model (`tokenizer: {type: file, path: ...}` in the pipeline)",
    )


def _require_same_model(config: ModelConfig, found: ModelConfig, where: str, free: AbstractSet[str]) -> None:
    ours, theirs = config.model_dump(), found.model_dump()
    changed = [
        f"model.{key}: {ours[key]!r}, there {theirs.get(key)!r}"
        for key in ours
        if key not in free and ours[key] != theirs.get(key)
    ]
    if changed:
        raise UserError(
            f"initial_weights: {where} is another model ({'; '.join(changed)})",
            expected="the same architecture and sizes as `model`",
            fix="set `model` as there (config.json of a folder, config.yaml of a checkpoint), or choose other weights",
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
