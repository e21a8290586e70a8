"""Validation loss of one rank: the mean over tokens, whatever the batches; ends early when asked."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
from torch.nn import functional as F

from trainer.evaluate.loss import Evaluation, evaluate_loss
from trainer.model.config import GPT2Config
from trainer.model.decoder import Decoder
from trainer.model.init import initialise


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[None]:
    """A process group of this process."""
    dist.init_process_group("gloo", store=dist.FileStore(str(tmp_path / "store"), 1), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.fixture
def model() -> Decoder:
    model = Decoder(GPT2Config(vocab_size=50, context=8, layers=1, width=16, heads=2, dropout=0.5))
    initialise(model, 1)
    return model


def rows(num: int) -> np.ndarray:
    return np.random.default_rng(num).integers(0, 50, (num, 9))


def evaluate(model: Decoder, batches: list[np.ndarray], *, stop_after: int = 10) -> Evaluation | None:
    asked = iter(range(100))
    return evaluate_loss(
        model,
        batches,
        device=torch.device("cpu"),
        bytes_per_token=2.0,
        stop_requested=lambda: next(asked) >= stop_after,
    )


@pytest.mark.usefixtures("alone")
def test_the_mean_over_tokens_counts_no_row_twice_and_no_stand_in(model: Decoder) -> None:
    batches = [rows(3), rows(1), rows(0).reshape(0, 9)]
    found = evaluate(model, batches)
    assert found is not None
    together = torch.from_numpy(np.concatenate(batches))
    model.eval()
    with torch.no_grad():
        expected = F.cross_entropy(model(together[:, :-1]).flatten(0, 1), together[:, 1:].flatten()).item()
    assert found.validation_loss == pytest.approx(expected, rel=1e-6)
    assert found.sequences == 4
    assert found.bits_per_byte == pytest.approx(expected / np.log(2) / 2, rel=1e-6)


@pytest.mark.usefixtures("alone")
@pytest.mark.parametrize("stop_after", [0, 1, 10])
def test_training_goes_on_in_its_own_mode_also_after_a_stop(model: Decoder, stop_after: int) -> None:
    found = evaluate(model, [rows(2), rows(2)], stop_after=stop_after)
    assert (found is None) == (stop_after < 2)
    assert model.training


def test_a_process_of_its_own_needs_no_process_group(model: Decoder) -> None:
    assert evaluate(model, [rows(3)]) is not None


def test_the_standard_error_is_that_of_the_mean_over_batches(model: Decoder) -> None:
    batches = [rows(number)[:1] for number in range(1, 9)]
    found = evaluate(model, batches)
    assert found is not None
    each = [single.validation_loss for batch in batches if (single := evaluate(model, [batch])) is not None]
    assert found.standard_error == pytest.approx(np.std(each, ddof=1) / np.sqrt(8), rel=1e-6)
    alone = evaluate(model, batches[:1])
    assert alone is not None
    assert alone.standard_error is None
