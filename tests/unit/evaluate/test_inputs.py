"""Packed samples know nothing of each other: each gives the logits, the loss and the gradients that it gives alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from trainer.data.chat import Encoded
from trainer.data.marks import CONTEXT, FIRST, with_marks
from trainer.data.prepare.packing import pack
from trainer.evaluate.inputs import model_inputs
from trainer.model.config import GPT2Config, LlamaConfig, ModelSettings, NeoXConfig
from trainer.model.decoder import Decoder
from trainer.model.init import initialise
from trainer.model.loss import IGNORED_TARGET

SIZES = {"vocab_size": 97, "context": 32, "layers": 2, "width": 64, "heads": 4}
FAMILIES = {"gpt2": GPT2Config(**SIZES), "llama": LlamaConfig(**SIZES, kv_heads=2), "neox": NeoXConfig(**SIZES)}
ROW = 33
LENGTHS = (9, 5, 12)


def built(config: ModelSettings) -> Decoder:
    model = Decoder(config)
    initialise(model, 1)
    return model.double()


def sample(seed: int, length: int) -> Encoded:
    """A prompt of two tokens, then an answer."""
    marks = np.zeros(length, dtype=np.uint8)
    marks[:2] = [CONTEXT | FIRST, CONTEXT]
    return Encoded(np.random.default_rng(seed).integers(1, 97, length), marks)


SAMPLES = [sample(seed, length) for seed, length in enumerate(LENGTHS)]


def packed_row() -> torch.Tensor:
    """[1, 33]: the three samples in their order, and padding."""
    (row,) = pack(SAMPLES, row_tokens=ROW, padding=0)
    return torch.from_numpy(with_marks(*row))[None]


def test_targets_are_answers_alone() -> None:
    inputs = model_inputs(packed_row(), packed=True)
    expected: list[int] = []
    for each in SAMPLES:
        expected += [IGNORED_TARGET, IGNORED_TARGET, *each.tokens[2:].tolist()]
    # The first token of a row is nobody's target.
    assert inputs.targets[0].tolist() == expected[1:] + [IGNORED_TARGET] * (ROW - len(expected))
    assert int(inputs.count_targets()) == sum(length - 2 for length in LENGTHS)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_packed_sample_gives_the_logits_that_it_gives_alone(family: str) -> None:
    model = built(FAMILIES[family])
    inputs = model_inputs(packed_row(), packed=True)
    with torch.no_grad():
        packed = model(inputs.tokens, documents_BT=inputs.documents)
        alone = torch.cat([model(torch.from_numpy(each.tokens)[None]) for each in SAMPLES], dim=1)
    # Rotary tables are fp32, and tell distances only: where a sample begins changes their rounding.
    torch.testing.assert_close(packed[:, : sum(LENGTHS)], alone, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_loss_of_a_sample_has_no_gradient_by_the_embeddings_of_another(family: str) -> None:
    model = built(FAMILIES[family])
    inputs = model_inputs(packed_row(), packed=True)
    first, end = LENGTHS[0], LENGTHS[0] + LENGTHS[1]
    targets = torch.full_like(inputs.targets, IGNORED_TARGET)
    targets[:, first : end - 1] = inputs.targets[:, first : end - 1]  # of the second sample alone
    embedded: list[torch.Tensor] = []

    def keep(_module: torch.nn.Module, _inputs: object, output: torch.Tensor) -> None:
        output.retain_grad()
        embedded.append(output)

    model.embed.register_forward_hook(keep)
    model(inputs.tokens, targets, inputs.documents).backward()
    gradient = embedded[0].grad
    assert gradient is not None
    assert not gradient[:, :first].any()
    assert not gradient[:, end:].any()
    assert gradient[:, first : end - 1].any(dim=-1).all()


def test_rows_of_plain_sets_are_targets_whole() -> None:
    rows = torch.arange(10).reshape(2, 5)
    inputs = model_inputs(rows, packed=False)
    assert inputs.documents is None
    assert inputs.tokens.tolist() == [[0, 1, 2, 3], [5, 6, 7, 8]]
    assert inputs.targets.tolist() == [[1, 2, 3, 4], [6, 7, 8, 9]]
