"""Starting from a Hugging Face folder."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from trainer.errors import UserError
from trainer.model.config import GPT2Config, ModelConfig
from trainer.model.decoder import Decoder
from trainer.model.hf import export_hf
from trainer.model.init import initialise
from trainer.train.initial_weights import load_folder

SMALL = {"vocab_size": 61, "context": 16, "layers": 2, "width": 16, "heads": 2}


def decoder(config: ModelConfig, seed: int) -> Decoder:
    model = Decoder(config)
    initialise(model, seed)
    return model


@pytest.fixture
def folder(tmp_path: Path) -> str:
    model = decoder(GPT2Config(**SMALL), seed=1)
    export_hf(dict(model.named_parameters()), model.config, tmp_path / "hf", dtype=torch.float32)
    return str(tmp_path / "hf")


def test_logits_are_those_of_the_folder(folder: str) -> None:
    theirs = decoder(GPT2Config(**SMALL), seed=1)
    ours = decoder(config := GPT2Config(**{**SMALL, "context": 8, "vocab_multiple": 32}), seed=2)
    load_folder(ours, config, folder)
    tokens_BT = torch.arange(8)[None] * 7
    with torch.no_grad():
        assert torch.allclose(ours(tokens_BT), theirs(tokens_BT), atol=1e-6)


def test_another_model_is_refused_by_name(folder: str) -> None:
    config = GPT2Config(**{**SMALL, "heads": 4, "mlp": "gelu"})
    with pytest.raises(UserError, match=r"(?s)model\.heads: 4, there 2.*model\.mlp: 'gelu', there 'gelu_tanh'"):
        load_folder(decoder(config, seed=2), config, folder)


def test_more_positions_than_the_folder_has(folder: str) -> None:
    config = GPT2Config(**{**SMALL, "context": 32})
    with pytest.raises(UserError, match=r"positions\.weight has shape \(16, 16\)"):
        load_folder(decoder(config, seed=2), config, folder)
