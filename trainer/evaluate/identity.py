"""Which trained model something is, without its weights: what a teacher is known by."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from trainer.checkpoint.references import resolve_url
from trainer.data.shards import file_sha256
from trainer.data.tokenizer import load_tokenizer, tokenizer_fingerprint
from trainer.evaluate.pretrained import checkpoint_settings, is_hugging_face
from trainer.model.config import ModelConfig
from trainer.model.hf import hf_files, hf_model_config
from trainer.settings import joined_sha256, settings_sha256


@dataclass(frozen=True)
class ModelIdentity:
    """A trained model by its papers."""

    url: str
    """Of the checkpoint itself, where it is one; a model folder as it was named."""
    config: ModelConfig
    sha256: str
    """Of the model's settings and the files of its weights."""
    tokenizer_sha256: str
    """Empty where nobody knows."""
    tokenizer_file: Path | None = None
    """That of a model folder."""


def identify_model(reference: str) -> ModelIdentity:
    """What is at `reference` (see `load_weights`); reads the whole files of a model folder for their hash."""
    folder = Path(reference)
    if is_hugging_face(folder):
        config = hf_model_config(folder)
        hashes = [f"{file.name} {file_sha256(file)}" for file in hf_files(folder)]
        own = folder / "tokenizer.json"
        sha256 = joined_sha256([settings_sha256(config), *hashes])
        if not own.is_file():
            return ModelIdentity(reference, config, sha256, "")
        return ModelIdentity(reference, config, sha256, tokenizer_fingerprint(load_tokenizer(own)), own)
    checkpoint = resolve_url(reference)
    committed = checkpoint.committed
    hashes = [f"{name} {entry.sha256}" for name, entry in sorted(committed.files.items())]
    return ModelIdentity(
        checkpoint.url,
        checkpoint_settings(checkpoint)[1],
        joined_sha256([committed.model_sha256, *hashes]),
        committed.tokenizer_sha256,
    )
