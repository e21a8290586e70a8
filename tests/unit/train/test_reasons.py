"""The word that status, claims and metrics use for an error that ended a worker."""

from __future__ import annotations

import pytest
import torch
import torch.distributed as dist

from trainer.checkpoint.ranks import TransferFailed
from trainer.elastic.reasons import Reason
from trainer.errors import Fenced
from trainer.train.loop import NonFiniteLoss, NotSaved
from trainer.train.worker import reason_of, report_of


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


def test_a_peer_that_has_gone_is_told_in_a_line_and_a_mistake_of_ours_with_its_traceback() -> None:
    gone = "[third_party/gloo/gloo/transport/tcp/pair.cc:553] Connection closed by peer [127.0.0.1]:58498"
    told = report_of(_raised(RuntimeError(gone)), 1).message
    assert told == f"error: rank 1 lost a peer, whose own end says more: RuntimeError: {gone}"
    assert "_raised" in report_of(_raised(RuntimeError("the size of a tensor")), 1).message


def _raised(error: Exception) -> Exception:
    with pytest.raises(type(error)) as caught:
        raise error
    return caught.value


def test_a_rank_whose_rounds_store_is_gone_says_so_in_a_line() -> None:
    server = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    client = dist.TCPStore("127.0.0.1", server.port, is_master=False, wait_for_workers=False)
    del server
    with pytest.raises(dist.DistNetworkError) as gone:
        client.add("ranks", 1)
    told = report_of(gone.value, 1).message
    assert told.startswith("error: rank 1 lost a peer, whose own end says more: DistNetworkError: ")
    assert "\n" not in told
