"""The YAML dialect: YAML 1.2 words and numbers, and files that are no YAML."""

from __future__ import annotations

from pathlib import Path

import pytest

from trainer.errors import UserError
from trainer.yaml_dialect import dump_yaml, load_yaml, parse_yaml


def test_values_that_yaml_1_1_reads_otherwise() -> None:
    text = "lr: 1e-4\ncountry: no\nswitch: on\nmode: 0o17\ntime: 12:30:00\nnothing: ~\n"
    assert parse_yaml(text, source="x") == {
        "lr": 1e-4,
        "country": "no",
        "switch": "on",
        "mode": 15,
        "time": "12:30:00",
        "nothing": None,
    }


def test_what_is_written_reads_the_same() -> None:
    data = {"lr": 1e-5, "word": "no", "flag": True, "list": [1, 2.0, "3"], "nothing": None}
    assert parse_yaml(dump_yaml(data), source="x") == data


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"\xff\xfe\x00", "run.yaml: invalid start byte at byte 0"),
        (b"name: a\x00b\n", "special characters are not allowed"),
        (b"a: 1\na: 2\n", "run.yaml:2:1: found duplicate key"),
        (b"a: [1\n", "run.yaml:2:1: expected ',' or ']'"),
        (b"a:\n\t- 1\n", "run.yaml:2:1: found character"),
        (b"a: !!python/object:os.system x\n", "could not determine a constructor"),
        (b"a: 1\n---\nb: 2\n", "found another document"),
        (b"[" * 1000, "inside each other, too many"),
    ],
)
def test_a_file_that_is_no_yaml_is_explained(tmp_path: Path, content: bytes, complaint: str) -> None:
    file = tmp_path / "run.yaml"
    file.write_bytes(content)
    with pytest.raises(UserError) as caught:
        load_yaml(file)
    assert complaint in str(caught.value)


def test_a_folder_is_no_yaml(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="Is a directory"):
        load_yaml(tmp_path)
