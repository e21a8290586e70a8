"""What a model is: sizes and named choices, with each family's defaults.

The decoder reads nothing but this; two equal configs build the same model. A family is a set of defaults, so any
choice may be changed on its own (a GPT-2 with rotary positions is one line); only the export to Hugging Face asks for
a combination that one of its architectures can express (see `hf`).
"""

from __future__ import annotations

import math
from typing import Annotated, Literal, Self, get_args

from pydantic import Field, model_validator

from trainer.settings import Settings

# Types carry their description here, because a family that changes a default declares the field again.
Positions = Annotated[
    Literal["learned", "rope"],
    Field(description="Positions: a learned embedding per position, or rotation of queries and keys (RoPE)."),
]
Norm = Annotated[
    Literal["layernorm", "rmsnorm"],
    Field(description="Normalisation before attention, before the MLP and before the head."),
]
Mlp = Annotated[
    Literal["gelu", "gelu_tanh", "swiglu"],
    Field(
        description="MLP: two matrices around GELU, exact or by its tanh approximation, or the gated SwiGLU of three."
    ),
]
Residual = Annotated[
    Literal["sequential", "parallel"],
    Field(description="Whether the MLP reads the attention's result (sequential) or the block's input (parallel)."),
]
Init = Annotated[
    Literal["normal", "scaled_residual", "small_wang"],
    Field(
        description="Initialisation of matrices: normal with init_std; the same with residual projections divided by "
        "sqrt(2 * layers) (GPT-2); or small-init with Wang's residual projections, which ignores init_std (GPT-NeoX)."
    ),
]
VocabSize = Annotated[int, Field(ge=1, description="Number of token ids the tokenizer can produce.")]
Context = Annotated[int, Field(ge=1, description="Longest sequence the model accepts, in tokens.")]
Layers = Annotated[int, Field(ge=1, description="Number of blocks.")]
Width = Annotated[int, Field(ge=1, description="Size of the residual stream, in features.")]
Heads = Annotated[int, Field(ge=1, description="Number of query heads; has to divide width.")]
FfnWidth = Annotated[
    int,
    Field(
        ge=1,
        description="Size of the MLP's hidden layer, in features. When left out: 4 * width; for llama, width * 8 / 3 "
        "rounded up to a multiple of 256, so that its three matrices cost what two of 4 * width do.",
    ),
]
RopeFraction = Annotated[
    float, Field(gt=0, le=1, description="Share of each head that is rotated; read only with rope positions.")
]
Tied = Annotated[bool, Field(description="Whether the head is the token embedding itself.")]
Bias = Annotated[bool, Field(description="Whether linear layers and LayerNorm have a bias; the head never has one.")]


class ModelSettings(Settings):
    """Sizes and choices that all families share; the defaults are GPT-2's smallest model."""

    vocab_size: VocabSize = 50257
    vocab_multiple: int = Field(default=1, ge=1)
    """The embedding and the head have vocab_size rows rounded up to this multiple, which matrix units like (50,257 ->
    50,304 with 64). Rows beyond vocab_size are zero, never win, never count in the loss and are not exported."""
    context: Context = 1024
    layers: Layers = 12
    width: Width = 768
    heads: Heads = 12
    kv_heads: int = Field(default_factory=lambda fields: fields.get("heads", 1), ge=1)
    """Number of key and value heads, each shared by heads / kv_heads query heads. When left out: heads."""
    ffn_width: FfnWidth = Field(default_factory=lambda fields: 4 * fields.get("width", 1))

    positions: Positions = "learned"
    rope_fraction: RopeFraction = 1.0
    rope_theta: float = Field(default=10000.0, gt=1)
    """Base of the rotation's wavelengths; read only with rope positions."""
    norm: Norm = "layernorm"
    norm_eps: float = Field(default=1e-5, gt=0)
    """Added to the variance (or mean square) before its root is taken."""
    mlp: Mlp = "gelu_tanh"
    residual: Residual = "sequential"
    tied: Tied = True
    bias: Bias = True
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Probability of dropping an embedding, an attention weight or a residual branch's output in training."""
    init: Init = "scaled_residual"
    init_std: float = Field(default=0.02, gt=0)
    """Standard deviation of freshly drawn embeddings and matrices."""

    @property
    def head_width(self) -> int:
        """Features of one attention head."""
        return self.width // self.heads

    @property
    def rope_width(self) -> int:
        """Features of one head that are rotated: an even number."""
        return int(self.head_width * self.rope_fraction)

    @property
    def padded_vocab_size(self) -> int:
        """Rows of the embedding and the head."""
        return _round_up(self.vocab_size, self.vocab_multiple)

    @model_validator(mode="after")
    def _sizes_fit(self) -> Self:
        problems = []
        if self.width % self.heads:
            near = " or ".join(str(divisor) for divisor in _near_divisors(self.width, self.heads))
            problems.append(f"width {self.width} is not divisible by heads {self.heads}; nearest that divide: {near}")
        elif self.positions == "rope" and (self.rope_width < 2 or self.rope_width % 2):
            problems.append(
                f"rope_fraction {self.rope_fraction} of a head of {self.head_width} features is {self.rope_width}; "
                "rotation works on pairs, so it has to be an even number of at least 2"
            )
        if self.heads % self.kv_heads:
            near = " or ".join(str(divisor) for divisor in _near_divisors(self.heads, self.kv_heads))
            problems.append(f"heads {self.heads} is not divisible by kv_heads {self.kv_heads}; nearest: {near}")
        if problems:
            raise ValueError("; ".join(problems))
        return self


class GPT2Config(ModelSettings):
    """GPT-2: learned positions, LayerNorm, tanh GELU, tied head. The defaults are the 124M model."""

    family: Literal["gpt2"] = "gpt2"


class LlamaConfig(ModelSettings):
    """LLaMA: rotary positions, RMSNorm, SwiGLU, no biases, untied. The defaults are a 1.3B model."""

    family: Literal["llama"] = "llama"
    vocab_size: VocabSize = 32000
    context: Context = 2048
    layers: Layers = 18
    width: Width = 2304
    heads: Heads = 18
    ffn_width: FfnWidth = Field(default_factory=lambda fields: _round_up(8 * fields.get("width", 1) / 3, 256))
    positions: Positions = "rope"
    norm: Norm = "rmsnorm"
    mlp: Mlp = "swiglu"
    tied: Tied = False
    bias: Bias = False
    init: Init = "normal"


class NeoXConfig(ModelSettings):
    """GPT-NeoX: partly rotary, parallel residual, LayerNorm, exact GELU, untied. The defaults are a 1.4B model."""

    family: Literal["neox"] = "neox"
    context: Context = 2048
    layers: Layers = 24
    width: Width = 2048
    heads: Heads = 16
    positions: Positions = "rope"
    rope_fraction: RopeFraction = 0.25
    mlp: Mlp = "gelu"
    residual: Residual = "parallel"
    tied: Tied = False
    init: Init = "small_wang"


ModelConfig = Annotated[GPT2Config | LlamaConfig | NeoXConfig, Field(discriminator="family")]


LoraTarget = Literal["attention.qkv", "attention.out", "mlp.up", "mlp.gate", "mlp.down"]


class LoraConfig(Settings):
    """Low-rank adapters (Hu et al., arXiv:2106.09685): each target computes W x + alpha / rank * B A x, where W and all
    other weights stay as they are and only A and B are trained."""

    rank: int = Field(default=8, ge=1)
    """Rows of A and columns of B."""
    alpha: float = Field(default=16.0, gt=0)
    """Scale of the adapters, divided by the rank."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Probability of dropping a feature of an adapter's input in training."""
    targets: tuple[LoraTarget, ...] = Field(default=("attention.qkv", "attention.out"), min_length=1)
    """Matrices of each block that get an adapter; `mlp.gate` is there with the mlp swiglu only."""


def lora_shapes(model: ModelSettings, lora: LoraConfig) -> dict[str, tuple[int, int]]:
    """(inputs, outputs) of the matrices of one block that get an adapter, by target; those it lacks are left out."""
    shapes = {
        "attention.qkv": (model.width, (model.heads + 2 * model.kv_heads) * model.head_width),
        "attention.out": (model.width, model.width),
        "mlp.up": (model.width, model.ffn_width),
        "mlp.down": (model.ffn_width, model.width),
    }
    if model.mlp == "swiglu":
        shapes["mlp.gate"] = (model.width, model.ffn_width)
    return {target: shapes[target] for target in lora.targets if target in shapes}


def lora_problems(model: ModelSettings, lora: LoraConfig) -> list[str]:
    """What does not fit about adapters of this model; keys are those of a run file."""
    known = lora_shapes(model, lora.model_copy(update={"targets": get_args(LoraTarget)}))
    problems = [
        f"lora.targets: this model has no {target}; it has {', '.join(known)}"
        for target in lora.targets
        if target not in known
    ]
    problems += [
        f"lora.rank: {lora.rank} is more than the smaller side of {target}, {inputs} x {outputs}; "
        f"give at most {min(inputs, outputs)}"
        for target, (inputs, outputs) in lora_shapes(model, lora).items()
        if lora.rank > min(inputs, outputs)
    ]
    if len(set(lora.targets)) < len(lora.targets):
        problems.append("lora.targets: names a matrix twice; name each once")
    return problems


def _round_up(number: float, multiple: int) -> int:
    return math.ceil(number / multiple) * multiple


def _near_divisors(number: int, near: int) -> list[int]:
    """The largest divisor of `number` below `near` and the smallest above, as far as they exist."""
    divisors = [candidate for candidate in range(1, number + 1) if number % candidate == 0]
    below = [divisor for divisor in divisors if divisor < near]
    above = [divisor for divisor in divisors if divisor > near]
    return below[-1:] + above[:1]
