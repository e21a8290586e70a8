"""Whether a run may go on from a checkpoint, which another release may have written."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import pytest

from trainer.checkpoint.layout import Checkpoint
from trainer.checkpoint.store import open_store
from trainer.config import RunConfig
from trainer.config_file import load_run_config
from trainer.errors import UserError
from trainer.settings import Added
from trainer.train import state
from trainer.train.restore import check_order_unchanged


class LaterRun(RunConfig):
    """The run of a later release, which can read the data in another order."""

    backwards: Annotated[bool, Added(as_before=False)] = False


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> LaterRun:
    """tiny-gpt2 in that release."""
    monkeypatch.setattr(state, "ORDER_KEYS", (*state.ORDER_KEYS, "backwards"))
    return LaterRun.model_validate(load_run_config("tiny-gpt2").model_dump())


def check(config: RunConfig, progress: dict[str, Any], folder: Path) -> None:
    checkpoint = Checkpoint(open_store(str(folder)), committed=None, sizes={})  # type: ignore[arg-type]  # not read
    check_order_unchanged(config, checkpoint, progress)


def test_a_checkpoint_from_before_a_key_goes_on(later: LaterRun, tmp_path: Path) -> None:
    before = {"data_order": state.data_order(load_run_config("tiny-gpt2"))}
    check(later, before, tmp_path)
    with pytest.raises(UserError, match="cannot go on with backwards: not there -> True"):
        check(later.model_copy(update={"backwards": True}), before, tmp_path)


def test_a_checkpoint_of_a_later_release_goes_on_where_its_new_key_says_what_was_done_before(
    later: LaterRun, tmp_path: Path
) -> None:
    now = load_run_config("tiny-gpt2")
    check(now, {"data_order": state.data_order(later)}, tmp_path)
    backwards = later.model_copy(update={"backwards": True})
    with pytest.raises(UserError, match=r"(?s)backwards: True -> not there.*the program that wrote the checkpoint"):
        check(now, {"data_order": state.data_order(backwards)}, tmp_path)


def test_a_checkpoint_that_does_not_say_its_order_is_refused_in_words(tmp_path: Path) -> None:
    config = load_run_config("tiny-gpt2")
    before = state.data_order(config)
    del before["seed"]
    with pytest.raises(UserError, match=f"cannot go on with seed: not there -> {config.seed}"):
        check(config, {"data_order": before}, tmp_path)
    with pytest.raises(UserError, match=r"cannot go on with batch\.sequences: not there -> "):
        check(config, {}, tmp_path)
