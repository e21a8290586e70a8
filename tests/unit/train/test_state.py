"""Progress and random-number state through a checkpoint's files."""

from __future__ import annotations

import json

import torch

from trainer.train.state import Progress, random_state, restore_random_state


def test_progress_survives_json() -> None:
    progress = Progress(step=3, tokens=48, epoch=0.5, loss=2.25, best_validation_loss=2.0, loss_scale=1024.0)
    progress.loss_history.extend([(1, 3.0), (3, 2.25)])
    assert Progress.from_json(json.loads(json.dumps(progress.to_json()))) == progress


def test_progress_of_a_newer_version_is_read() -> None:
    assert Progress.from_json({**Progress(step=2, loss=1.0).to_json(), "invented_later": 1}).step == 2


def test_random_numbers_go_on_where_they_stopped() -> None:
    device = torch.device("cpu")
    torch.manual_seed(5)
    saved = random_state(device)
    expected = torch.rand(4)
    torch.manual_seed(6)
    restore_random_state(saved, device)
    assert torch.equal(torch.rand(4), expected)
