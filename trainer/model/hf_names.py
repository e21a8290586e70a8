"""Parameters under our names and under Hugging Face's: one table per family, read in both directions by `hf`.

A row maps one module of ours to one or more of theirs and says how the values are laid out there; it holds for the
module's weight and, where there is one, its bias.

Shapes: D width, O output features, N heads, K head width.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from trainer.model.config import ModelConfig, ModelSettings
from trainer.model.hf_config import Family


@dataclass(frozen=True)
class Layout:
    """How one tensor of ours is laid out as tensors of theirs, and back."""

    to_hf: Callable[[Tensor, ModelSettings], list[Tensor]]
    from_hf: Callable[[list[Tensor], ModelSettings], Tensor]


@dataclass(frozen=True)
class Link:
    """One parameter of ours and the parameters of theirs that hold the same values."""

    ours: str
    theirs: tuple[str, ...]
    layout: Layout


def links(config: ModelConfig, our_names: Iterable[str]) -> list[Link]:
    """The links of all parameters of a model, in the order of `our_names`."""
    rows = {module: (theirs, layout) for module, theirs, layout in _TABLES[config.family]}
    result = []
    for name in our_names:
        module, _, kind = name.rpartition(".")
        parts = module.split(".")
        layer = parts[1] if parts[0] == "blocks" else ""
        key = ".".join(["blocks", "{}", *parts[2:]]) if layer else module
        theirs, layout = rows[key]
        result.append(Link(name, tuple(f"{their.format(layer)}.{kind}" for their in theirs), layout))
    return result


def _query_key_value(config: ModelSettings) -> tuple[int, int, int]:
    kv_rows = config.kv_heads * config.head_width
    return config.width, kv_rows, kv_rows


def _interleave(fused: Tensor, config: ModelSettings) -> Tensor:
    """Rows ordered query heads, key heads, value heads -> per head its query, key and value."""
    return fused.view(3, config.heads, config.head_width, -1).transpose(0, 1).reshape(fused.shape)


def _deinterleave(fused: Tensor, config: ModelSettings) -> Tensor:
    return fused.view(config.heads, 3, config.head_width, -1).transpose(0, 1).reshape(fused.shape)


_SAME = Layout(lambda ours, _: [ours], lambda theirs, _: theirs[0])
# GPT-2's Conv1D keeps [inputs, outputs]; t() leaves a bias as it is.
_TRANSPOSED = Layout(lambda ours, _: [ours.t()], lambda theirs, _: theirs[0].t())
_PER_HEAD = Layout(
    lambda ours, config: [_interleave(ours, config)], lambda theirs, config: _deinterleave(theirs[0], config)
)
_SPLIT = Layout(lambda ours, config: list(ours.split(_query_key_value(config))), lambda theirs, _: torch.cat(theirs))

_Table = tuple[tuple[str, tuple[str, ...], Layout], ...]
_TABLES: dict[Family, _Table] = {
    "gpt2": (
        ("embed", ("transformer.wte",), _SAME),
        ("positions", ("transformer.wpe",), _SAME),
        ("blocks.{}.attention_norm", ("transformer.h.{}.ln_1",), _SAME),
        ("blocks.{}.attention.qkv", ("transformer.h.{}.attn.c_attn",), _TRANSPOSED),
        ("blocks.{}.attention.out", ("transformer.h.{}.attn.c_proj",), _TRANSPOSED),
        ("blocks.{}.mlp_norm", ("transformer.h.{}.ln_2",), _SAME),
        ("blocks.{}.mlp.up", ("transformer.h.{}.mlp.c_fc",), _TRANSPOSED),
        ("blocks.{}.mlp.down", ("transformer.h.{}.mlp.c_proj",), _TRANSPOSED),
        ("norm", ("transformer.ln_f",), _SAME),
        ("head", ("lm_head",), _SAME),
    ),
    "llama": (
        ("embed", ("model.embed_tokens",), _SAME),
        ("blocks.{}.attention_norm", ("model.layers.{}.input_layernorm",), _SAME),
        (
            "blocks.{}.attention.qkv",
            (
                "model.layers.{}.self_attn.q_proj",
                "model.layers.{}.self_attn.k_proj",
                "model.layers.{}.self_attn.v_proj",
            ),
            _SPLIT,
        ),
        ("blocks.{}.attention.out", ("model.layers.{}.self_attn.o_proj",), _SAME),
        ("blocks.{}.mlp_norm", ("model.layers.{}.post_attention_layernorm",), _SAME),
        ("blocks.{}.mlp.gate", ("model.layers.{}.mlp.gate_proj",), _SAME),
        ("blocks.{}.mlp.up", ("model.layers.{}.mlp.up_proj",), _SAME),
        ("blocks.{}.mlp.down", ("model.layers.{}.mlp.down_proj",), _SAME),
        ("norm", ("model.norm",), _SAME),
        ("head", ("lm_head",), _SAME),
    ),
    "neox": (
        ("embed", ("gpt_neox.embed_in",), _SAME),
        ("blocks.{}.attention_norm", ("gpt_neox.layers.{}.input_layernorm",), _SAME),
        ("blocks.{}.attention.qkv", ("gpt_neox.layers.{}.attention.query_key_value",), _PER_HEAD),
        ("blocks.{}.attention.out", ("gpt_neox.layers.{}.attention.dense",), _SAME),
        ("blocks.{}.mlp_norm", ("gpt_neox.layers.{}.post_attention_layernorm",), _SAME),
        ("blocks.{}.mlp.up", ("gpt_neox.layers.{}.mlp.dense_h_to_4h",), _SAME),
        ("blocks.{}.mlp.down", ("gpt_neox.layers.{}.mlp.dense_4h_to_h",), _SAME),
        ("norm", ("gpt_neox.final_layer_norm",), _SAME),
        ("head", ("embed_out",), _SAME),
    ),
}
