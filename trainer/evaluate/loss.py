"""Validation loss, perplexity and bits per byte of a model over a fixed list of samples.

`evaluate_splits` is called by the train loop, by evaluation-only runs and by `gpt-run eval`. Every rank computes its
share; the sums are added over ranks, so the result does not depend on how many there are (beyond rounding). A process
without a process group is its own world.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.distributed as dist

from trainer.data.loader import validation_batches
from trainer.data.split import TokenSplit
from trainer.evaluate.inputs import model_inputs
from trainer.model.decoder import Decoder


@dataclass(frozen=True)
class Evaluation:
    """What one evaluation found."""

    validation_loss: float
    """Mean cross-entropy, nats per token."""
    sequences: int
    bits_per_byte: float | None
    """Loss per byte of text, comparable across tokenizers; None where the set does not say how long its text was."""
    standard_error: float | None = None
    """Of the loss as an estimate of the whole set's, from how the batches differ; None of a single batch."""

    @property
    def perplexity(self) -> float:
        """`exp(loss)`, infinite where that overflows."""
        return math.exp(self.validation_loss) if self.validation_loss < 700 else math.inf

    def figures(self) -> dict[str, float | None]:
        """As in a line of training.jsonl."""
        return {
            "validation_loss": self.validation_loss,
            "perplexity": self.perplexity,
            "bits_per_byte": self.bits_per_byte,
        }


def bits_per_byte(loss: float, bytes_per_token: float | None) -> float | None:
    """Nats per token as bits per byte of the text the tokens stand for."""
    return loss / math.log(2) / bytes_per_token if bytes_per_token else None


def evaluate_splits(
    model: Decoder,
    splits: Sequence[TokenSplit],
    *,
    sequences: int,
    micro_sequences: int,
    rank: int,
    world_size: int,
    device: torch.device,
    stop_requested: Callable[[], bool],
) -> Evaluation | None:
    """Evaluate `sequences` samples of the splits, 0 for all; None if any rank was asked to stop. Collective."""
    rows = validation_batches(
        splits,
        sequences=sequences or None,
        rank=rank,
        world=world_size,
        micro=micro_sequences,
        vocab_size=model.config.vocab_size,
    )
    # Splits that were tokenized differently have no common length of text.
    bytes_per_token = splits[0].bytes_per_token if len(splits) == 1 else None
    return evaluate_loss(
        model,
        rows,
        device=device,
        bytes_per_token=bytes_per_token,
        stop_requested=stop_requested,
        packed=splits[0].packed,
    )


@torch.no_grad()
def evaluate_loss(
    model: torch.nn.Module,
    batches: Iterable[np.ndarray],
    *,
    device: torch.device,
    bytes_per_token: float | None,
    stop_requested: Callable[[], bool],
    packed: bool = False,
) -> Evaluation | None:
    """Mean loss over `batches`, this rank's arrays [n, T+1] of token ids; every rank must have equally many.

    The ids of `packed` sets lie below their marks. An array of no rows stands for a rank that has run out of samples.
    Returns None if any rank was asked to stop.
    """
    # loss sum L in nats, tokens n, sequences, and over batches the sums of L * L, L * n, n * n and of batches
    sums = torch.zeros(7, dtype=torch.float64, device=device)
    was_training = model.training
    model.eval()
    try:
        for rows in batches:
            stop = torch.tensor(float(stop_requested()), device=device)
            _sum_over_ranks(stop)
            if stop.item() > 0:
                return None
            # FSDP gathers parameters in every forward pass, so a rank without samples runs one that does not count.
            weight = 1.0 if len(rows) else 0.0
            tokens = rows if len(rows) else np.zeros((1, rows.shape[1]), dtype=np.int64)
            inputs = model_inputs(torch.from_numpy(tokens).to(device, non_blocking=True), packed=packed)
            loss_sum = model(*inputs).double()
            count = inputs.count_targets() if packed else inputs.targets.numel()
            found = (loss_sum, count, len(tokens), loss_sum * loss_sum, loss_sum * count, count * count, 1)
            for place, value in enumerate(found):
                sums[place] += weight * value
    finally:
        model.train(was_training)
    _sum_over_ranks(sums)
    loss_total, tokens_total, sequences, *products = sums.tolist()
    loss = loss_total / tokens_total
    error = _standard_error(loss, tokens_total, *products)
    return Evaluation(loss, int(sequences), bits_per_byte(loss, bytes_per_token), error)


def _standard_error(
    loss: float, tokens: float, loss_squares: float, loss_tokens: float, token_squares: float, batches: float
) -> float | None:
    """Standard error of a ratio of sums over batches drawn at random (Cochran, Sampling Techniques, section 6.3)."""
    if batches < 2:
        return None
    squares = loss_squares - 2 * loss * loss_tokens + loss * loss * token_squares
    return math.sqrt(max(0.0, squares) * batches / (batches - 1)) / tokens


def _sum_over_ranks(values: torch.Tensor) -> None:
    if dist.is_initialized():
        dist.all_reduce(values)
