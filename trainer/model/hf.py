"""Hugging Face folders: export of a trained model with its tokenizer, import of weights to start from.

Called by the checkpoint export command and by runs that start from a Hugging Face folder. Needs safetensors and
tokenizers, not transformers. Weights pass through one tensor at a time.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from trainer.errors import UserError
from trainer.model.config import ModelConfig
from trainer.model.decoder import Decoder
from trainer.model.hf_config import from_hf_config, to_hf_config
from trainer.model.hf_names import Link, links
from trainer.model.hf_tokenizer import write_json, write_tokenizer
from trainer.model.safetensors_file import write_safetensors
from trainer.paths import stays_inside

_WEIGHTS = "model.safetensors"
_INDEX = "model.safetensors.index.json"
_DTYPES = {torch.float32: "float32", torch.bfloat16: "bfloat16", torch.float16: "float16"}
# Constants that older versions of Transformers stored among the weights.
_STORED_CONSTANTS = (".attn.bias", ".attn.masked_bias", ".rotary_emb.inv_freq", ".attention.bias", ".masked_bias")
# What Transformers' own save_pretrained takes.
MAX_SHARD_BYTES = 5_000_000_000


def export_hf(
    state: Mapping[str, Tensor],
    config: ModelConfig,
    folder: Path,
    *,
    dtype: torch.dtype = torch.float32,
    tokenizer_file: Path | None = None,
    eos_id: int | None = None,
    end_of_turn_id: int | None = None,
    max_shard_bytes: int = MAX_SHARD_BYTES,
    advance: Callable[[int], None] = lambda _: None,
) -> None:
    """Write the model into `folder`, new or empty, for Transformers' AutoModelForCausalLM and AutoTokenizer.

    `state` maps the names of `Decoder(config).named_parameters()` to whole CPU tensors; each is asked for once and let
    go before the next, so of a lazy mapping one tensor is in memory. `tokenizer_file` is a tokenizer.json; a chat
    template beside it comes along. Generation stops at `eos_id`, and at the token that ends an answer. `advance` is
    told of bytes of weights. A failure leaves half a folder: see `trainer.durable.replacing_folder`. Raises UserError
    for a choice that the architecture cannot express, for a state of another model, and for an EOS id that the
    tokenizer lacks.
    """
    if dtype not in _DTYPES:
        known = ", ".join(_DTYPES.values())
        raise UserError(f"export in {dtype}", expected=f"one of {known}", fix="choose one of them")
    hf_config = to_hf_config(config, dtype=_DTYPES[dtype], eos_id=eos_id)
    shapes = _shapes(config)
    _check_names(state, shapes)
    folder.mkdir(parents=True, exist_ok=True)
    if tokenizer_file is not None:
        write_tokenizer(tokenizer_file, eos_id, config, folder)
    _write_weights(state, config, folder, dtype, max_shard_bytes, advance)
    stops = eos_id if end_of_turn_id in (None, eos_id) else [eos_id, end_of_turn_id]
    write_json(folder / "generation_config.json", {"bos_token_id": eos_id, "eos_token_id": stops})
    write_json(folder / "config.json", hf_config)


def exported_bytes(config: ModelConfig, dtype: torch.dtype) -> int:
    """Bytes of the weights in an export."""
    return sum(file.num_bytes for file in _plan_files(config, dtype, MAX_SHARD_BYTES))


def import_hf(folder: Path) -> tuple[ModelConfig, dict[str, Tensor]]:
    """The config and the weights, under our names and in the folder's dtype, of a Hugging Face folder.

    Raises UserError when the architecture is none of ours, uses what the decoder lacks, or weights are missing, of a
    wrong shape or of no known name.
    """
    config = hf_model_config(folder)
    shapes = _shapes(config)
    state = {}
    with ExitStack() as stack:
        stored = _open_weights(folder, stack)
        for link in links(config, shapes):
            tensor = link.layout.from_hf([_take(stored, name, folder) for name in link.theirs], config)
            if tensor.shape != shapes[link.ours]:
                raise _bad_shape(f"{folder}: {', '.join(link.theirs)}", tensor.shape, shapes[link.ours])
            state[link.ours] = tensor.contiguous()
        _check_nothing_left(stored, config, folder)
    return config, state


def hf_model_config(folder: Path) -> ModelConfig:
    """Our settings of the model in a Hugging Face folder. UserError where there is none, or none of ours."""
    config_file = folder / "config.json"
    if not config_file.is_file():
        raise UserError(f"no {config_file}", expected="a Hugging Face model folder", fix="check the folder's path")
    return from_hf_config(_read_json(config_file), config_file)


def hf_files(folder: Path) -> list[Path]:
    """The files that hold a folder's weights, in order."""
    index = folder / _INDEX
    names = sorted(set(_read_json(index).get("weight_map", {}).values()), key=str) if index.is_file() else [_WEIGHTS]
    for name in names:
        if not isinstance(name, str) or not stays_inside(name):
            raise UserError(
                f"{index} names {name!r}", expected="files of this folder", fix="fetch the folder again from its source"
            )
        if not (folder / name).is_file():
            raise UserError(
                f"{folder / name} is not there",
                expected="weights in safetensors files",
                fix="fetch the folder again; save pickled weights (pytorch_model.bin) as safetensors first",
            )
    return [folder / name for name in names]


def _shapes(config: ModelConfig) -> dict[str, torch.Size]:
    with torch.device("meta"):
        return {name: parameter.shape for name, parameter in Decoder(config).named_parameters()}


def _check_names(state: Mapping[str, Tensor], shapes: Mapping[str, torch.Size]) -> None:
    missing, unknown = shapes.keys() - state.keys(), state.keys() - shapes.keys()
    if missing or unknown:
        raise UserError(
            f"the state lacks {sorted(missing)[:3]} and has {sorted(unknown)[:3]} beyond the model's parameters",
            expected=f"the {len(shapes)} parameters of the config's model",
            fix="export with the config that the checkpoint was trained with",
        )


@dataclass
class _File:
    """One file of weights: the parameters of ours that go into it, and what they are there."""

    links: list[Link] = field(default_factory=list)
    shapes: dict[str, torch.Size] = field(default_factory=dict)
    num_bytes: int = 0


def _plan_files(config: ModelConfig, dtype: torch.dtype, max_shard_bytes: int) -> list[_File]:
    """Consecutive parameters per file, within the limit unless a single one exceeds it."""
    shapes = _shapes(config)
    files = [_File()]
    for link in links(config, shapes):
        parts = _to_hf(link, torch.empty(shapes[link.ours], device="meta"), config)
        num_bytes = sum(part.numel() for part in parts) * dtype.itemsize
        if files[-1].links and files[-1].num_bytes + num_bytes > max_shard_bytes:
            files.append(_File())
        files[-1].links.append(link)
        files[-1].shapes |= {name: part.shape for name, part in zip(link.theirs, parts, strict=True)}
        files[-1].num_bytes += num_bytes
    return files


def _write_weights(
    state: Mapping[str, Tensor],
    config: ModelConfig,
    folder: Path,
    dtype: torch.dtype,
    max_shard_bytes: int,
    advance: Callable[[int], None],
) -> None:
    shapes = _shapes(config)
    files = _plan_files(config, dtype, max_shard_bytes)
    weight_map: dict[str, str] = {}

    def tensors(file: _File) -> Iterator[tuple[str, Tensor]]:
        for link in file.links:
            # No name in here for a tensor: the next is read when nobody holds the one before it.
            parts = _to_hf(link, _checked(state, link.ours, shapes), config)
            for name in link.theirs:
                yield name, parts.pop(0)
                advance(file.shapes[name].numel() * dtype.itemsize)

    for number, file in enumerate(files, start=1):
        name = _WEIGHTS if len(files) == 1 else f"model-{number:05d}-of-{len(files):05d}.safetensors"
        write_safetensors(folder / name, file.shapes, dtype, tensors(file))
        weight_map |= dict.fromkeys(file.shapes, name)
    if len(files) > 1:
        total_bytes = sum(file.num_bytes for file in files)
        totals = {"total_parameters": total_bytes // dtype.itemsize, "total_size": total_bytes}
        write_json(folder / _INDEX, {"metadata": totals, "weight_map": weight_map})


def _checked(state: Mapping[str, Tensor], name: str, shapes: Mapping[str, torch.Size]) -> Tensor:
    tensor = state[name]
    if tensor.shape != shapes[name]:
        raise _bad_shape(f"the state's {name}", tensor.shape, shapes[name])
    return tensor


def _to_hf(link: Link, ours: Tensor, config: ModelConfig) -> list[Tensor]:
    """A parameter as theirs, without the rows that only pad the vocabulary."""
    if link.ours in ("embed.weight", "head.weight"):
        ours = ours[: config.vocab_size]
    return link.layout.to_hf(ours, config)


def _read_json(file: Path) -> dict[str, Any]:
    try:
        values = json.loads(file.read_bytes())
    except ValueError as error:
        raise UserError(f"{file}: {error}", expected="whole JSON", fix="fetch the folder again") from error
    if not isinstance(values, dict):
        raise UserError(f"{file} holds no JSON object", expected="a Hugging Face model folder", fix="fetch it again")
    return values


def _open_weights(folder: Path, stack: ExitStack) -> dict[str, Any]:
    """Stored name -> open safetensors file; tensors are read when asked for."""
    stored: dict[str, Any] = {}
    for file in hf_files(folder):
        try:
            opened = stack.enter_context(safe_open(file, framework="pt"))
        except SafetensorError as error:
            raise UserError(
                f"{file}: {error}", expected="weights in whole safetensors files", fix="fetch the folder again"
            ) from error
        stored |= dict.fromkeys(opened.keys(), opened)
    return stored


def _take(stored: dict[str, Any], name: str, folder: Path) -> Tensor:
    """Read one stored tensor and tick it off. Folders may lack the base model's prefix, or call NeoX's head lm_head."""
    for candidate in (name, name.partition(".")[2], name.replace("embed_out.", "lm_head.")):
        if candidate in stored:
            tensor: Tensor = stored.pop(candidate).get_tensor(candidate)
            return tensor
    raise UserError(
        f"{folder} has no weight {name}",
        expected="every weight that config.json implies",
        fix="check that config.json and the weights belong together",
    )


def _check_nothing_left(stored: Mapping[str, Any], config: ModelConfig, folder: Path) -> None:
    heads = ("lm_head.weight", "embed_out.weight") if config.tied else ()
    left = [name for name in stored if name not in heads and not name.endswith(_STORED_CONSTANTS)]
    if left:
        raise UserError(
            f"{folder} has weights that the model does not use: {', '.join(sorted(left)[:3])}",
            expected="the weights that config.json implies, and no more",
            fix="check that config.json and the weights belong together",
        )


def _bad_shape(name: str, found: torch.Size, expected: torch.Size) -> UserError:
    return UserError(
        f"{name} has shape {list(found)}",
        expected=f"{list(expected)}",
        fix="use the config that belongs to these weights",
    )
