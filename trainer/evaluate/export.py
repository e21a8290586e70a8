"""Export a checkpoint for other programs.

Called by `gpt-run checkpoints export`.
"""

from __future__ import annotations

from pathlib import Path

from trainer.data.chat import TEMPLATE_FILE, load_template
from trainer.data.tokenizer import load_tokenizer
from trainer.evaluate.pretrained import load_weights
from trainer.model.hf import export_hf
from trainer.parallel.config import Precision
from trainer.parallel.precision import COMPUTE_DTYPE


def export_checkpoint(url: str, output: Path, *, dtype: Precision, tokenizer_file: str | None) -> str:
    """Write the checkpoint at `url` as a Hugging Face folder; returns the URL of the checkpoint it took."""
    weights = load_weights(url, tokenizer_file=tokenizer_file)
    export_hf(
        weights.tensors,
        weights.config,
        output,
        dtype=COMPUTE_DTYPE[dtype],
        tokenizer_file=weights.tokenizer_file,
        eos_id=weights.eos_id,
        end_of_turn_id=_end_of_turn_id(weights.tokenizer_file),
    )
    return weights.url


def _end_of_turn_id(tokenizer_file: Path | None) -> int | None:
    """Of the chat template beside the tokenizer; None where there is none."""
    if tokenizer_file is None or not tokenizer_file.with_name(TEMPLATE_FILE).is_file():
        return None
    tokenizer = load_tokenizer(tokenizer_file)
    template = load_template(None, tokenizer, tokenizer_folder=str(tokenizer_file.parent))
    return template.end_of_turn_id(tokenizer)
