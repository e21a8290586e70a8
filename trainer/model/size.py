"""How large a model is and what a token of training costs: exact arithmetic on a ModelSettings.

Pure; called by the planner, by the trainer's throughput meter and by presets' tests. A test builds each family on the
meta device and compares.
"""

from __future__ import annotations

from trainer.model.config import ModelSettings


def count_parameters(config: ModelSettings) -> int:
    """Parameters of the model, without the rows that only pad the vocabulary."""
    parameters = count_parameters_without_positions(config)
    if config.positions == "learned":
        parameters += config.context * config.width
    return parameters


def count_parameters_without_positions(config: ModelSettings) -> int:
    """Parameters less learned position embeddings, which no matrix product touches: the N of `flops_per_token`."""
    tables = 1 if config.tied else 2
    return tables * config.vocab_size * config.width + config.layers * _block(config) + _norm(config)


def flops_per_token(config: ModelSettings, sequence_length: int) -> int:
    """Floating-point operations of forward and backward per token: 6N + 12 L d T (PaLM, Chowdhery 2022, appendix B).

    Counts the whole T x T attention, not its causal half, and nothing that recomputation repeats.
    """
    attention = 12 * config.layers * config.width * sequence_length
    return 6 * count_parameters_without_positions(config) + attention


def _block(config: ModelSettings) -> int:
    attended = (config.heads + 2 * config.kv_heads) * config.head_width
    attention = _linear(config, config.width, attended) + _linear(config, config.width, config.width)
    up = _linear(config, config.width, config.ffn_width)
    down = _linear(config, config.ffn_width, config.width)
    mlp = (2 if config.mlp == "swiglu" else 1) * up + down
    return attention + mlp + 2 * _norm(config)


def _linear(config: ModelSettings, inputs: int, outputs: int) -> int:
    return inputs * outputs + (outputs if config.bias else 0)


def _norm(config: ModelSettings) -> int:
    return config.width * (2 if config.norm == "layernorm" and config.bias else 1)
