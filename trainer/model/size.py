"""How large a model is and what a token of training costs: exact arithmetic on a ModelSettings.

Pure; called by the planner, by the trainer's throughput meter and by presets' tests. A test builds each family on the
meta device and compares.
"""

from __future__ import annotations

from trainer.model.config import LoraConfig, ModelSettings, lora_shapes

# 256 MiB in bf16 and twice that in fp32.
_DEVICE_CHUNK_LOGITS = 128 * 1024**2


def count_parameters(config: ModelSettings) -> int:
    """Parameters of the model, without the rows that only pad the vocabulary."""
    parameters = count_parameters_without_positions(config)
    if config.positions == "learned":
        parameters += config.context * config.width
    return parameters


def count_parameters_without_positions(config: ModelSettings) -> int:
    """Parameters less learned position embeddings, which no matrix product touches: the N of `flops_per_token`."""
    tables = 1 if config.tied else 2
    return tables * config.vocab_size * config.width + config.layers * count_block_parameters(config) + _norm(config)


def flops_per_token(config: ModelSettings, sequence_length: int) -> int:
    """Floating-point operations of forward and backward per token: 6N + 12 L d T (PaLM, Chowdhery 2022, appendix B).

    Counts the whole T x T attention, not its causal half, and nothing that recomputation repeats.
    """
    attention = 12 * config.layers * config.width * sequence_length
    return 6 * count_parameters_without_positions(config) + attention


def trained_flops_per_token(
    config: ModelSettings,
    sequence_length: int,
    *,
    lora: LoraConfig | None = None,
    teacher: ModelSettings | None = None,
) -> int:
    """The same of what a run really computes: no weight gradients of frozen parameters, and a teacher's forward pass.

    Forward, gradients of activations and gradients of weights take 2N each; a teacher that runs beside takes a third
    of what its training would.
    """
    flops = flops_per_token(config, sequence_length)
    if lora is not None:
        flops += 6 * count_adapter_parameters(config, lora) - 2 * count_parameters_without_positions(config)
    if teacher is not None:
        flops += flops_per_token(teacher, sequence_length) // 3
    return flops


def count_adapter_parameters(config: ModelSettings, lora: LoraConfig) -> int:
    """Parameters that are trained in place of the model's."""
    return config.layers * lora.rank * sum(sum(shape) for shape in lora_shapes(config, lora).values())


def parameter_flops_per_token(config: ModelSettings) -> int:
    """The other convention, 6N (Kaplan 2020, arXiv:2001.08361): without attention's products of queries and keys."""
    return 6 * count_parameters_without_positions(config)


def executed_flops_per_token(
    config: ModelSettings,
    sequence_length: int,
    recompute: str = "none",
    *,
    lora: LoraConfig | None = None,
    teacher: ModelSettings | None = None,
) -> int:
    """What the matrix products of forward and backward compute, as torch's FlopCounterMode counts them.

    Unlike the conventions: the embedding's lookup is no product, biases and norms are none, padded rows are, a fused
    attention kernel computes its scores again (14 L d T), and recomputed blocks count once more. Of frozen matrices
    there is no product for the gradient; a teacher has its forward pass alone.
    """
    head = config.padded_vocab_size * config.width
    matrices = config.layers * count_block_parameters(config, matrices_only=True)
    attention = config.layers * config.width * sequence_length
    # Recomputation stops before the last product of a block, whose result nothing needs.
    last = config.layers * config.ffn_width * config.width
    again = 2 * (matrices - last) + 4 * attention if recompute == "full" else 0
    trained = 6 * (matrices + head)
    if lora is not None:
        trained = 4 * (matrices + head) + 6 * count_adapter_parameters(config, lora)
    taught = 0
    if teacher is not None:
        theirs = teacher.layers * count_block_parameters(teacher, matrices_only=True)
        taught = 2 * (theirs + teacher.padded_vocab_size * teacher.width)
        taught += 4 * teacher.layers * teacher.width * sequence_length
    return trained + 14 * attention + again + taught


def device_chunk_tokens(vocab_rows: int) -> int:
    """Tokens whose logits exist at a time in the loss on a GPU: V * D gradients per chunk cost little beside C * V."""
    return max(128, _DEVICE_CHUNK_LOGITS // vocab_rows // 128 * 128)


def count_block_parameters(config: ModelSettings, *, matrices_only: bool = False) -> int:
    """Parameters of one block; or of its matrices alone, without biases and norms."""
    attended = (config.heads + 2 * config.kv_heads) * config.head_width
    shapes = [(config.width, attended), (config.width, config.width)]
    shapes += (2 if config.mlp == "swiglu" else 1) * [(config.width, config.ffn_width)]
    shapes += [(config.ffn_width, config.width)]
    matrices = sum(inputs * outputs for inputs, outputs in shapes)
    if matrices_only:
        return matrices
    biases = sum(outputs for _, outputs in shapes) if config.bias else 0
    return matrices + biases + 2 * _norm(config)


def _norm(config: ModelSettings) -> int:
    return config.width * (2 if config.norm == "layernorm" and config.bias else 1)
