"""The host copy is the state of the call, whatever happens to the live tensors afterwards."""

from __future__ import annotations

import torch
from torch.distributed.checkpoint.default_planner import DefaultSavePlanner

from trainer.checkpoint.staging import HostCopy, flatten, flatten_below, put_back


def test_names_are_joined_and_put_back() -> None:
    nested = {"model": {"layer": {"weight": 1}, "bias": 2}, "groups": [{"lr": 4, "betas": [5]}], "step": 3}
    flat = flatten(nested)
    assert flat == {"model.layer.weight": 1, "model.bias": 2, "groups.0.lr": 4, "groups.0.betas": [5], "step": 3}
    assert flatten(flatten_below(nested)) == flat
    put_back(nested, {name: value * 10 if isinstance(value, int) else [0] for name, value in flat.items()})
    assert nested == {"model": {"layer": {"weight": 10}, "bias": 20}, "groups": [{"lr": 40, "betas": [0]}], "step": 30}


def test_names_are_those_of_torchs_planner() -> None:
    nested = {"a": {"list": [torch.zeros(1), 2], "plain": [1, 2], "deep": [[{"x": 1}]]}, "b": [3], "empty": {}}
    planner = DefaultSavePlanner()
    planner.set_up_planner(nested)
    assert set(flatten(nested)) == set(planner.state_dict)
    planner.set_up_planner(flatten_below(nested))
    assert set(flatten(nested)) == set(planner.state_dict)


def test_the_copy_does_not_follow_the_live_tensors() -> None:
    live = {"weight": torch.ones(3), "groups": [1, 2]}
    taken = HostCopy().take(live)
    live["weight"].add_(1)
    live["groups"].append(3)
    assert taken["weight"].tolist() == [1, 1, 1]
    assert taken["groups"] == [1, 2]


def test_buffers_are_reused_and_follow_a_change_of_shape() -> None:
    host = HostCopy()
    first = host.take({"a": torch.zeros(4), "b": torch.zeros(2)})
    second = host.take({"a": torch.ones(4), "b": torch.ones(3)})
    assert second["a"].data_ptr() == first["a"].data_ptr()
    assert second["b"].tolist() == [1, 1, 1]


def test_a_view_is_copied_without_the_storage_around_it() -> None:
    taken = HostCopy().take({"column": torch.arange(12.0).reshape(3, 4)[:, 1]})
    assert taken["column"].tolist() == [1, 5, 9]
    assert taken["column"].untyped_storage().nbytes() == 12
