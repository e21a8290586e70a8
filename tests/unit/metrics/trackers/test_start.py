"""Trackers whose package is missing are refused by name."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from trainer.errors import UserError
from trainer.metrics.trackers.config import TensorBoardConfig, WandbConfig
from trainer.metrics.trackers.start import check_trackers


def test_what_is_installed_is_fine() -> None:
    check_trackers([TensorBoardConfig(), WandbConfig()])


def test_a_missing_package_is_named_even_beside_a_folder_of_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "wandb").mkdir()
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    monkeypatch.delitem(sys.modules, "wandb", raising=False)
    with pytest.raises(UserError, match=r"trackers: wandb is not installed(?s:.*)gpt-run\[wandb\]"):
        check_trackers([WandbConfig()])


def test_a_tracker_that_needs_no_package_is_fine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(WandbConfig, "packages", ())
    monkeypatch.setattr(sys, "path", [])
    monkeypatch.delitem(sys.modules, "wandb", raising=False)
    check_trackers([WandbConfig()])
