"""ModelConfig as the config.json of a Hugging Face architecture, and back; called by `hf`.

One table per family names the keys that carry a value over unchanged; what an architecture fixes for good stands in
`_FIXED`, and a config that chooses otherwise is refused. Training choices (dropout, initialisation) are written where
the architecture knows them and are not read back: they say nothing of the weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import TypeAdapter, ValidationError

from trainer.errors import UserError
from trainer.model.config import ModelConfig

Family = Literal["gpt2", "llama", "neox"]

ARCHITECTURES: dict[Family, str] = {
    "gpt2": "GPT2LMHeadModel",
    "llama": "LlamaForCausalLM",
    "neox": "GPTNeoXForCausalLM",
}
_MODEL_TYPES: dict[Family, str] = {"gpt2": "gpt2", "llama": "llama", "neox": "gpt_neox"}

# Ours -> theirs, for values that mean the same on both sides.
_KEYS: dict[Family, dict[str, str]] = {
    "gpt2": {
        "vocab_size": "vocab_size",
        "context": "n_positions",
        "layers": "n_layer",
        "width": "n_embd",
        "heads": "n_head",
        "ffn_width": "n_inner",
        "norm_eps": "layer_norm_epsilon",
        "tied": "tie_word_embeddings",
    },
    "llama": {
        "vocab_size": "vocab_size",
        "context": "max_position_embeddings",
        "layers": "num_hidden_layers",
        "width": "hidden_size",
        "heads": "num_attention_heads",
        "kv_heads": "num_key_value_heads",
        "ffn_width": "intermediate_size",
        "norm_eps": "rms_norm_eps",
        "tied": "tie_word_embeddings",
        "bias": "mlp_bias",
    },
    "neox": {
        "vocab_size": "vocab_size",
        "context": "max_position_embeddings",
        "layers": "num_hidden_layers",
        "width": "hidden_size",
        "heads": "num_attention_heads",
        "ffn_width": "intermediate_size",
        "norm_eps": "layer_norm_eps",
        "tied": "tie_word_embeddings",
    },
}
# What a config.json may leave out: the architecture's own default then holds.
_DEFAULTS: dict[Family, dict[str, Any]] = {
    "gpt2": {"layer_norm_epsilon": 1e-5, "tie_word_embeddings": True, "activation_function": "gelu_new"},
    "llama": {"rms_norm_eps": 1e-6, "tie_word_embeddings": False, "mlp_bias": False, "hidden_act": "silu"},
    "neox": {"layer_norm_eps": 1e-5, "tie_word_embeddings": False, "hidden_act": "gelu"},
}
# The choices that an architecture leaves no room for.
_FIXED: dict[Family, dict[str, tuple[Any, ...]]] = {
    "gpt2": {
        "positions": ("learned",),
        "norm": ("layernorm",),
        "mlp": ("gelu", "gelu_tanh"),
        "residual": ("sequential",),
        "bias": (True,),
    },
    "llama": {
        "positions": ("rope",),
        "rope_fraction": (1.0,),
        "norm": ("rmsnorm",),
        "mlp": ("swiglu",),
        "residual": ("sequential",),
    },
    "neox": {"positions": ("rope",), "norm": ("layernorm",), "mlp": ("gelu", "gelu_tanh"), "bias": (True,)},
}
# Switches of the architectures that change the function and that the decoder has no counterpart for.
_UNSUPPORTED: dict[Family, dict[str, Any]] = {
    "gpt2": {
        "scale_attn_weights": True,
        "scale_attn_by_inverse_layer_idx": False,
        "reorder_and_upcast_attn": False,
        "add_cross_attention": False,
    },
    "llama": {"pretraining_tp": 1},
    "neox": {"attention_bias": True},
}
_ACTIVATIONS = {"gelu": "gelu", "gelu_new": "gelu_tanh", "gelu_pytorch_tanh": "gelu_tanh", "silu": "swiglu"}
_ACTIVATION_NAMES = {"gelu": "gelu", "gelu_tanh": "gelu_new", "swiglu": "silu"}


def to_hf_config(config: ModelConfig, *, dtype: str, eos_id: int | None) -> dict[str, Any]:
    """The content of config.json. Raises UserError naming every choice that the architecture cannot express."""
    check_expressible(config)
    family = config.family
    values: dict[str, Any] = {
        "architectures": [ARCHITECTURES[family]],
        "model_type": _MODEL_TYPES[family],
        # The name up to Transformers 4 and the name since.
        "torch_dtype": dtype,
        "dtype": dtype,
        # Documents are separated by EOS, so it is also what stands before the first token.
        "bos_token_id": eos_id,
        "eos_token_id": eos_id,
        "use_cache": True,
        "initializer_range": config.init_std,
    }
    values |= {theirs: getattr(config, ours) for ours, theirs in _KEYS[family].items()}
    activation = _ACTIVATION_NAMES[config.mlp]
    if config.family == "gpt2":
        dropouts = dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), config.dropout)
        return values | dropouts | {"activation_function": activation}
    values |= {"hidden_act": activation, "attention_dropout": config.dropout}
    rope: dict[str, Any] = {"rope_type": "default", "rope_theta": config.rope_theta}
    if config.family == "llama":
        values |= {"rope_theta": config.rope_theta, "attention_bias": config.bias, "head_dim": config.head_width}
        return values | {"rope_parameters": rope}
    values |= {"rotary_pct": config.rope_fraction, "rotary_emb_base": config.rope_theta, "attention_bias": True}
    values |= {"hidden_dropout": config.dropout, "use_parallel_residual": config.residual == "parallel"}
    return values | {"rope_parameters": rope | {"partial_rotary_factor": config.rope_fraction}}


def from_hf_config(values: Mapping[str, Any], file: Path) -> ModelConfig:
    """The ModelConfig of a config.json read from `file`. Raises UserError for what the decoder cannot compute."""
    family = _family(values, file)
    values = _DEFAULTS[family] | {key: value for key, value in values.items() if value is not None}
    for key, supported in _UNSUPPORTED[family].items():
        if values.get(key, supported) != supported:
            raise _unsupported(file, key, values[key], str(supported))
    fields: dict[str, Any] = {"family": family}
    fields |= {ours: values[theirs] for ours, theirs in _KEYS[family].items() if theirs in values}
    fields["mlp"] = _activation(values, family, file)
    if family != "gpt2":
        fields |= _rope(values, family, file)
    if family == "llama":
        _check_llama(values, file)
    if family == "neox":
        fields["residual"] = "parallel" if values.get("use_parallel_residual", True) else "sequential"
    _check_sizes_present(fields, family, file)
    try:
        config: ModelConfig = TypeAdapter(ModelConfig).validate_python(fields)
    except ValidationError as error:
        raise UserError(
            f"{file} describes an impossible model: {error}",
            expected="sizes that fit each other",
            fix="check the file against the model's source",
        ) from error
    return config


def check_expressible(config: ModelConfig) -> None:
    """Raises UserError naming every choice that the family's architecture leaves no room for."""
    problems = [
        f"{choice}: {getattr(config, choice)} (it has {' or '.join(map(str, allowed))})"
        for choice, allowed in _FIXED[config.family].items()
        if getattr(config, choice) not in allowed
    ]
    if config.family != "llama" and config.kv_heads != config.heads:
        problems.append(f"kv_heads: {config.kv_heads} (it has as many as heads, {config.heads})")
    if problems:
        architecture = ARCHITECTURES[config.family]
        raise UserError(
            f"{architecture} cannot express model." + ", model.".join(problems),
            expected=f"the choices of {architecture}",
            fix="choose a family that has them before training; a trained model cannot be exported to this one",
        )


def _family(values: Mapping[str, Any], file: Path) -> Family:
    architectures = values.get("architectures") or []
    for family, architecture in ARCHITECTURES.items():
        if architecture in architectures or (not architectures and values.get("model_type") == _MODEL_TYPES[family]):
            return family
    raise UserError(
        f"{file} says architectures {architectures} and model_type {values.get('model_type')!r}",
        expected=f"one of {', '.join(ARCHITECTURES.values())}",
        fix="import a model of one of these architectures",
    )


def _activation(values: Mapping[str, Any], family: Family, file: Path) -> str:
    key = "activation_function" if family == "gpt2" else "hidden_act"
    mlp = _ACTIVATIONS.get(values[key], "")
    if mlp not in _FIXED[family]["mlp"]:
        known = [name for name, ours in _ACTIVATIONS.items() if ours in _FIXED[family]["mlp"]]
        raise _unsupported(file, key, values[key], " or ".join(known))
    return mlp


def _rope(values: Mapping[str, Any], family: Family, file: Path) -> dict[str, Any]:
    """Base and fraction, from the keys of Transformers 5 or those before it."""
    rope = values.get("rope_parameters") or values.get("rope_scaling") or {}
    kind = rope.get("rope_type", rope.get("type", "default"))
    if kind != "default":
        raise _unsupported(file, "rope_type", kind, "default")
    if family == "llama":
        return {"rope_theta": rope.get("rope_theta", values.get("rope_theta", 10000.0))}
    return {
        "rope_theta": rope.get("rope_theta", values.get("rotary_emb_base", 10000.0)),
        "rope_fraction": rope.get("partial_rotary_factor", values.get("rotary_pct", 0.25)),
    }


def _check_llama(values: Mapping[str, Any], file: Path) -> None:
    if values.get("attention_bias", False) != values["mlp_bias"]:
        raise _unsupported(
            file, "attention_bias", values.get("attention_bias", False), f"mlp_bias {values['mlp_bias']}"
        )
    width, heads = values.get("hidden_size"), values.get("num_attention_heads")
    head_width = values.get("head_dim")
    if width and heads and head_width not in (None, width // heads):
        raise _unsupported(file, "head_dim", head_width, f"hidden_size / num_attention_heads = {width // heads}")


def _check_sizes_present(fields: Mapping[str, Any], family: Family, file: Path) -> None:
    # ffn_width and kv_heads follow from the others when left out, on both sides by the same rule.
    needed = ["vocab_size", "context", "layers", "width", "heads"] + (["ffn_width"] if family != "gpt2" else [])
    missing = [_KEYS[family][ours] for ours in needed if ours not in fields]
    if missing:
        raise UserError(
            f"{file} lacks {', '.join(missing)}",
            expected=f"the sizes of a {ARCHITECTURES[family]}",
            fix="take the folder's complete config.json",
        )


def _unsupported(file: Path, key: str, value: object, supported: str) -> UserError:
    return UserError(
        f"{file} says {key}: {value}",
        expected=supported,
        fix="import a model without it: the decoder here would compute something else from the same weights",
    )
