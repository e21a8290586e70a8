"""Run files, overrides and chart values: a config, or a complaint in words."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
from hypothesis import given
from hypothesis import strategies as st
from ruamel.yaml import YAML

from tests.unit.fuzz.mutations import changed, damaged, few
from trainer.cli.train import parse_address, parse_range, parse_workers
from trainer.config import RunConfig
from trainer.config_file import apply_override, load_run_config, run_config_yaml, split_overrides, validate_run
from trainer.errors import UserError

ROOT = Path(__file__).parents[3]
PRESETS = {name: YAML(typ="safe").load(run_config_yaml(load_run_config(name))) for name in ("tiny-gpt2", "neox-1.4b")}
SCHEMA = json.loads((ROOT / "charts" / "gpt-run" / "values.schema.json").read_text())
WORDS = st.text(alphabet="abcz.=,[]{}:-²0123456789'\"\n\t &*!|>#%@\\ü\x00", max_size=40)


def refused(function: Any, *arguments: Any, **options: Any) -> Any:
    """What a function gives; None where it refuses in words."""
    try:
        return function(*arguments, **options)
    except UserError:
        return None


@few
@given(data=st.data())
def test_run_files(tmp_path: Path, data: st.DataObject) -> None:
    whole = run_config_yaml(load_run_config(data.draw(st.sampled_from(sorted(PRESETS))))).encode()
    path = tmp_path / "run.yaml"
    path.write_bytes(data.draw(damaged(whole) | st.binary(max_size=60) | WORDS.map(str.encode)))
    config = refused(load_run_config, str(path))
    assert config is None or isinstance(config, RunConfig)


@few
@given(data=st.data())
def test_values_of_any_kind(data: st.DataObject) -> None:
    document = data.draw(changed(PRESETS[data.draw(st.sampled_from(sorted(PRESETS)))]))
    if not isinstance(document, dict):
        return
    config = refused(validate_run, document, source="run.yaml")
    if config is not None:
        # What was taken is written down and read again as the same.
        assert validate_run(YAML(typ="safe").load(run_config_yaml(config)), source="again") == config


@few
@given(data=st.data())
def test_overrides(data: st.DataObject) -> None:
    keys = st.sampled_from(
        ["seed", "data.train", "data.train.0.path", "data.train.²", "optimizer.type", "model.x", "a"]
    )
    override = data.draw(WORDS | st.builds(lambda key, value: f"{key}={value}", keys, WORDS))
    raw = {**PRESETS["tiny-gpt2"], "data": {"train": [{"path": "x"}]}}
    for part in split_overrides(override):
        refused(apply_override, raw, part)
    refused(validate_run, raw, source="run.yaml")


@few
@given(text=WORDS | st.sampled_from(["²", "1:²", "a:²", "-1", "0x1", "1_0", "٣", "h:99999"]))
def test_what_commands_take(text: str) -> None:
    refused(parse_workers, text)
    refused(parse_range, text, "--nnodes", "machines")
    refused(parse_address, text)


@few
@given(data=st.data())
def test_chart_values(data: st.DataObject) -> None:
    """Helm holds values against the schema; what gets past it is held against RunConfig in the pod."""
    run = data.draw(changed(PRESETS["tiny-gpt2"]))
    schema = {**SCHEMA["properties"]["run"], "$defs": SCHEMA.get("$defs", {})}
    errors = list(jsonschema.Draft202012Validator(schema).iter_errors(run))
    if not errors and isinstance(run, dict):
        refused(validate_run, run, source="values.yaml")
