"""Export a checkpoint for other programs.

Called by `gpt-run checkpoints export`.
"""

from __future__ import annotations

from pathlib import Path

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
    )
    return weights.url
