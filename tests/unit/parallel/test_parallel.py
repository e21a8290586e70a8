"""Sharding groups, the loss scaler, precision checks and the trial before compilation."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from trainer.errors import UserError
from trainer.parallel.compile import use_compile_cache
from trainer.parallel.config import ParallelConfig
from trainer.parallel.mesh import shard_group_size
from trainer.parallel.precision import LossScaler, check_precision


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (ParallelConfig(shard="full"), 8),
        (ParallelConfig(shard="grads_and_optimizer"), 8),
        (ParallelConfig(shard="none"), 1),
        (ParallelConfig(shard="hybrid"), 4),
        (ParallelConfig(shard="hybrid", hybrid_ranks=2), 2),
    ],
)
def test_ranks_that_share_a_copy(config: ParallelConfig, expected: int) -> None:
    assert shard_group_size(config, world_size=8, local_world_size=4) == expected


def test_the_compile_cache_is_where_its_setting_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR"):
        monkeypatch.setenv(name, "")  # put back at the end
        monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    use_compile_cache(ParallelConfig())
    folder = Path(os.environ["TORCHINDUCTOR_CACHE_DIR"]).parent.relative_to(tmp_path)
    assert f"`{folder}`" in str(ParallelConfig.model_fields["compile_cache"].description)


def test_groups_of_unequal_size_are_refused() -> None:
    with pytest.raises(UserError, match="3 does not divide the 8 ranks"):
        shard_group_size(ParallelConfig(shard="hybrid", hybrid_ranks=3), world_size=8, local_world_size=4)


def test_loss_scale_halves_on_overflow_and_grows_after_good_steps() -> None:
    scaler = LossScaler(scale=8.0, growth_steps=2)
    scaler.update(finite=False)
    assert (scaler.scale, scaler.good_steps) == (4.0, 0)
    scaler.update(finite=True)
    scaler.update(finite=True)
    assert (scaler.scale, scaler.good_steps) == (8.0, 0)


def test_loss_scale_stays_at_least_one() -> None:
    scaler = LossScaler(scale=1.0)
    scaler.update(finite=False)
    assert scaler.scale == 1.0


def test_fp8_needs_a_recent_gpu() -> None:
    with pytest.raises(UserError, match="fp8 on cpu"):
        check_precision("fp8", torch.device("cpu"))
