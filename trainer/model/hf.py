"""Hugging Face folders: export of a trained model with its tokenizer, import of weights to start from.

Called by the checkpoint export command and by runs that start from a Hugging Face folder. Needs safetensors and
tokenizers, not transformers. An export is written beside its place and renamed, so a folder that exists is whole.
"""

from __future__ import annotations

import json
import secrets
import shutil
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from tokenizers import Tokenizer
from torch import Tensor

from trainer.errors import UserError
from trainer.model.config import ModelConfig
from trainer.model.decoder import Decoder
from trainer.model.hf_config import from_hf_config, to_hf_config
from trainer.model.hf_names import Link, links

_WEIGHTS = "model.safetensors"
_CHAT_TEMPLATE = "chat_template.jinja"
_INDEX = "model.safetensors.index.json"
_DTYPES = {torch.float32: "float32", torch.bfloat16: "bfloat16", torch.float16: "float16"}
# Constants that older versions of Transformers stored among the weights.
_STORED_CONSTANTS = (".attn.bias", ".attn.masked_bias", ".rotary_emb.inv_freq", ".attention.bias", ".masked_bias")


def export_hf(
    state: Mapping[str, Tensor],
    config: ModelConfig,
    folder: Path,
    *,
    dtype: torch.dtype = torch.float32,
    tokenizer_file: Path | None = None,
    eos_id: int | None = None,
    end_of_turn_id: int | None = None,
    max_shard_bytes: int = 5_000_000_000,
) -> None:
    """Write the model to `folder`, which must not exist yet, for Transformers' AutoModelForCausalLM and AutoTokenizer.

    `state` maps the names of `Decoder(config).named_parameters()` to whole CPU tensors; each is asked for once, so a
    lazy mapping keeps one shard in memory. `tokenizer_file` is a tokenizer.json; a chat template beside it comes along.
    Generation stops at `eos_id`, and at the token that ends an answer. Raises UserError for a choice that the
    architecture cannot express, for a state of another model, and for an EOS id that the tokenizer lacks.
    """
    if dtype not in _DTYPES:
        known = ", ".join(_DTYPES.values())
        raise UserError(f"export in {dtype}", expected=f"one of {known}", fix="choose one of them")
    hf_config = to_hf_config(config, dtype=_DTYPES[dtype], eos_id=eos_id)
    shapes = _shapes(config)
    _check_names(state, shapes)
    with _whole_or_nothing(folder) as unfinished:
        _write_weights(state, config, shapes, unfinished, dtype, max_shard_bytes)
        _write_json(unfinished / "config.json", hf_config)
        stops = eos_id if end_of_turn_id in (None, eos_id) else [eos_id, end_of_turn_id]
        _write_json(unfinished / "generation_config.json", {"bos_token_id": eos_id, "eos_token_id": stops})
        if tokenizer_file is not None:
            _write_tokenizer(tokenizer_file, eos_id, config, unfinished)


def import_hf(folder: Path) -> tuple[ModelConfig, dict[str, Tensor]]:
    """The config and the weights, under our names and in the folder's dtype, of a Hugging Face folder.

    Raises UserError when the architecture is none of ours, uses what the decoder lacks, or weights are missing, of a
    wrong shape or of no known name.
    """
    config_file = folder / "config.json"
    if not config_file.is_file():
        raise UserError(f"no {config_file}", expected="a Hugging Face model folder", fix="check the folder's path")
    config = from_hf_config(_read_json(config_file), config_file)
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


@contextmanager
def _whole_or_nothing(folder: Path) -> Iterator[Path]:
    """A new folder beside `folder` that takes its name when the body succeeds and goes away when it does not."""
    if folder.exists():
        raise UserError(f"{folder} exists", expected="a new folder", fix="choose another or remove this one")
    unfinished = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}.unfinished")
    unfinished.mkdir(parents=True)
    try:
        yield unfinished
        unfinished.rename(folder)
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise


def _write_weights(
    state: Mapping[str, Tensor],
    config: ModelConfig,
    shapes: Mapping[str, torch.Size],
    folder: Path,
    dtype: torch.dtype,
    max_shard_bytes: int,
) -> None:
    shards = _plan_shards(links(config, shapes), shapes, dtype.itemsize, max_shard_bytes)
    files: dict[str, str] = {}
    total_bytes = 0
    for number, shard in enumerate(shards, start=1):
        file = _WEIGHTS if len(shards) == 1 else f"model-{number:05d}-of-{len(shards):05d}.safetensors"
        tensors: dict[str, Tensor] = {}
        for link in shard:
            ours = state[link.ours]
            if ours.shape != shapes[link.ours]:
                raise _bad_shape(f"the state's {link.ours}", ours.shape, shapes[link.ours])
            if link.ours in ("embed.weight", "head.weight"):
                ours = ours[: config.vocab_size]
            theirs = link.layout.to_hf(ours.detach().to(dtype), config)
            # Copies, because safetensors refuses tensors that share memory, as parts of a split do.
            tensors |= {
                name: tensor.clone(memory_format=torch.contiguous_format)
                for name, tensor in zip(link.theirs, theirs, strict=True)
            }
        save_file(tensors, folder / file, metadata={"format": "pt"})
        files |= dict.fromkeys(tensors, file)
        total_bytes += sum(tensor.nbytes for tensor in tensors.values())
    if len(shards) > 1:
        _write_json(folder / _INDEX, {"metadata": {"total_size": total_bytes}, "weight_map": files})


def _plan_shards(
    parameters: list[Link], shapes: Mapping[str, torch.Size], item_bytes: int, max_shard_bytes: int
) -> list[list[Link]]:
    """Consecutive parameters per file, within the limit unless a single one exceeds it."""
    shards: list[list[Link]] = [[]]
    used_bytes = 0
    for link in parameters:
        size_bytes = shapes[link.ours].numel() * item_bytes
        if shards[-1] and used_bytes + size_bytes > max_shard_bytes:
            shards.append([])
            used_bytes = 0
        shards[-1].append(link)
        used_bytes += size_bytes
    return shards


def _write_tokenizer(tokenizer_file: Path, eos_id: int | None, config: ModelConfig, folder: Path) -> None:
    try:
        tokenizer = Tokenizer.from_file(str(tokenizer_file))
    except Exception as error:  # the library raises plain Exception for a missing and for a malformed file
        raise UserError(
            f"{tokenizer_file}: {error}", expected="a tokenizer.json", fix="name the tokenizer the data was made with"
        ) from error
    # Not their number: a vocabulary may have holes.
    ids = max(tokenizer.get_vocab(with_added_tokens=True).values()) + 1
    if ids > config.vocab_size:
        raise UserError(
            f"{tokenizer_file} has ids up to {ids - 1}, model.vocab_size is {config.vocab_size}",
            expected="ids below model.vocab_size",
            fix="name the tokenizer the data was made with",
        )
    special = {}
    if eos_id is not None:
        eos = tokenizer.id_to_token(eos_id)
        if eos is None:
            raise UserError(
                f"{tokenizer_file} has no token {eos_id}",
                expected="an EOS id below its size",
                fix="take the id from the data set's dataset.json",
            )
        special = {"bos_token": eos, "eos_token": eos}
    shutil.copyfile(tokenizer_file, folder / "tokenizer.json")
    template = tokenizer_file.with_name(_CHAT_TEMPLATE)
    if template.is_file():
        shutil.copyfile(template, folder / _CHAT_TEMPLATE)
        # What the template writes as bos_token and eos_token.
        beside = _read_json(tokenizer_file.with_name("tokenizer_config.json"))
        special |= {role: beside[role] for role in ("bos_token", "eos_token") if role in beside}
    _write_json(folder / "special_tokens_map.json", special)
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": config.context}
    _write_json(folder / "tokenizer_config.json", settings | {"clean_up_tokenization_spaces": False} | special)


def _write_json(file: Path, values: Mapping[str, Any]) -> None:
    file.write_text(json.dumps(values, indent=2, sort_keys=True) + "\n")


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
    index = folder / _INDEX
    files = sorted(set(_read_json(index).get("weight_map", {}).values())) if index.is_file() else [_WEIGHTS]
    stored: dict[str, Any] = {}
    for file in files:
        try:
            opened = stack.enter_context(safe_open(folder / file, framework="pt"))
        except (FileNotFoundError, SafetensorError) as error:
            raise UserError(
                f"{folder / file}: {error}",
                expected="weights in whole safetensors files",
                fix="fetch the folder again; save pickled weights (pytorch_model.bin) as safetensors first",
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
