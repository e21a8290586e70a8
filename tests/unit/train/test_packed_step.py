"""The step on packed rows: the loss and the update are those of the mean over all answer tokens."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from trainer.data.marks import CONTEXT, FIRST, with_marks
from trainer.model.config import GPT2Config
from trainer.model.decoder import Decoder
from trainer.model.init import initialise
from trainer.parallel.config import ParallelConfig
from trainer.train.config import AdamWConfig
from trainer.train.optimizer import build_optimizers
from trainer.train.step import Flags, StepContext, train_step

CONFIG = GPT2Config(vocab_size=50, context=8, layers=1, width=16, heads=2)


def packed_rows(sequences: int) -> np.ndarray:
    """[n, 9], one sample each, with another number of answer tokens in every row."""
    random = np.random.default_rng(sequences)
    marks = np.full((sequences, 9), CONTEXT, dtype=np.uint8)
    for row in range(sequences):
        marks[row, 8 - row % 7 :] = 0
    marks[:, 0] = CONTEXT | FIRST
    return with_marks(random.integers(0, 50, (sequences, 9)), marks)


@pytest.mark.parametrize("micro", [1, 2, 5])
def test_the_loss_is_the_mean_over_answers_of_the_whole_batch(micro: int) -> None:
    rows = packed_rows(5)
    model, reference = Decoder(CONFIG), Decoder(CONFIG)
    initialise(model, 1)
    reference.load_state_dict(model.state_dict())
    ids, counted = torch.from_numpy(rows & 0xFFFF), torch.from_numpy((rows[:, 1:] >> 32) & CONTEXT == 0)
    losses = torch.nn.functional.cross_entropy(
        reference(ids[:, :-1]).flatten(0, 1), ids[:, 1:].flatten(), reduction="none"
    )
    expected = losses[counted.flatten()].mean()
    expected.backward()
    gradients = [parameter.grad for parameter in reference.parameters()]
    found: list[torch.Tensor] = []
    context = StepContext(
        model=model,
        optimizers=build_optimizers(model, AdamWConfig(lr=1e-3)),
        parallel=ParallelConfig(),
        device=torch.device("cpu"),
        world_size=1,
        batch_sequences=5,
        micro_sequences=micro,
        clip_norm=0.0,
        scaler=None,
        packed=True,
    )
    result = train_step(
        context,
        rows,
        Flags,
        before_update=lambda: found.extend(p.grad.clone() for p in model.parameters() if p.grad is not None),
    )
    assert result.loss == pytest.approx(expected.item(), rel=1e-6)
    for gradient, reference_gradient in zip(found, gradients, strict=True):
        assert reference_gradient is not None
        torch.testing.assert_close(gradient, reference_gradient, rtol=1e-4, atol=1e-7)
    norm = torch.linalg.vector_norm(torch.cat([g.flatten() for g in gradients if g is not None])).item()
    assert result.grad_norm == pytest.approx(norm, rel=1e-5)
