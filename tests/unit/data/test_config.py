"""Settings of the data: short forms, defaults, refusals."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from trainer.data.config import CacheConfig, DataConfig, Source


@pytest.mark.parametrize("train", ["a", {"path": "a"}, ["a"], [{"path": "a"}], (Source(path="a"),)])
def test_one_source_may_be_written_short(train: object) -> None:
    config = DataConfig.model_validate({"train": train})
    assert config.train == (Source(path="a"),)
    assert DataConfig.model_validate_json(config.model_dump_json()) == config


def test_the_schema_allows_the_short_forms() -> None:
    kinds = DataConfig.model_json_schema()["properties"]["train"]["anyOf"]
    assert [kind.get("type", "source") for kind in kinds] == ["string", "source", "array"]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"train": []}, "at least 1 item"),
        ({"train": ""}, "at least 1 character"),
        ({"train": {"path": "a", "weight": 0}}, "greater than 0"),
        ({"train": {"path": "a", "weight": float("inf")}}, "finite number"),
        ({"train": {"path": "a", "wieght": 1}}, "Extra inputs"),
        ({"train": 3}, "valid dictionary"),
        ({"train": "a", "shuffle_group_bytes": 10, "cache": {"max_bytes": 19}}, r"at least 20"),
        (
            {"train": ["s3://a", "gs://b", "c"], "shuffle_group_bytes": 10, "cache": {"max_bytes": 39}},
            r"next one of each of 2 remote sources; set cache.max_bytes to at least 40",
        ),
    ],
)
def test_wrong_settings_are_refused(data: object, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        DataConfig.model_validate(data)


def test_the_cache_lies_where_the_user_says_or_in_the_users_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/someone")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert CacheConfig().folder() == Path("/home/someone/.cache/gpt-run/shards")
    monkeypatch.setenv("XDG_CACHE_HOME", "/x")
    assert CacheConfig().folder() == Path("/x/gpt-run/shards")
    assert CacheConfig(path="~/c").folder() == Path("/home/someone/c")
