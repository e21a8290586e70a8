"""The word that status, claims and metrics use for an error that ended a worker."""

from __future__ import annotations

import pytest
import torch

from trainer.checkpoint.ranks import TransferFailed
from trainer.elastic.reasons import Reason
from trainer.errors import Fenced
from trainer.train.loop import NonFiniteLoss, NotSaved
from trainer.train.worker import reason_of


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (Fenced("newer"), Reason.FENCED),
        (NonFiniteLoss("nan"), Reason.NON_FINITE_LOSS),
        (NotSaved("gone"), Reason.STORE_UNAVAILABLE),
        (TransferFailed("gone"), Reason.STORE_UNAVAILABLE),
        (ConnectionResetError("store"), Reason.STORE_UNAVAILABLE),
        (torch.OutOfMemoryError("CUDA out of memory"), Reason.OUT_OF_MEMORY),
        (MemoryError(), Reason.OUT_OF_MEMORY),
        (RuntimeError("[gloo] Connection closed by peer"), Reason.WORKER_FAILED),
        (ValueError("wrong"), Reason.WORKER_FAILED),
    ],
)
def test_reason(error: Exception, reason: Reason) -> None:
    assert reason_of(error) is reason


def test_memory_that_a_cpu_has_not() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**60, dtype=torch.uint8)
    assert reason_of(caught.value) is Reason.OUT_OF_MEMORY
