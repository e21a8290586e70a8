"""The values files: each lints, renders, and holds its preset's run."""

from __future__ import annotations

import pytest
import yaml

from charts.generator.__main__ import chart_files, out_of_date
from charts.generator.manifests import KUBERNETES
from charts.generator.runs import HARDWARE, RUNS, RunFile
from tests.charts.rendering import Chart, find, merged, worker
from tests.charts.standards import problems
from trainer.config_file import load_run_config, preset_names, validate_run
from trainer.yaml_dialect import load_yaml, parse_yaml

REFERENCE_RUNS = [name for name in preset_names() if not name.startswith("tiny-")]
# What nobody but the user knows; the cpu file has both.
TO_SET = ("--set", "store.url=s3://bucket/runs", "--set", "run.data.train=s3://bucket/data")


def settings(run: RunFile) -> tuple[str, ...]:
    return () if "store" in run.more else TO_SET


def test_they_are_up_to_date() -> None:
    assert out_of_date(chart_files()) == []


def test_every_reference_run_and_kind_of_node_has_one() -> None:
    names = [run.name for run in RUNS]
    assert set(REFERENCE_RUNS) <= set(names)
    assert {"h100", "h200", "a100", "h20", "l40s-ray", "cpu"} <= set(names)
    assert {run.hardware for run in RUNS} == set(HARDWARE)


@pytest.mark.parametrize("run", RUNS, ids=lambda run: run.name)
def test_lints_and_renders(chart: Chart, run: RunFile) -> None:
    file = str(chart.path / run.file)
    options = ("--kube-version", KUBERNETES, "--values", file, *settings(run))
    linted = chart.run("lint", "--strict", str(chart.path), *options)
    assert linted.returncode == 0, linted.stdout + linted.stderr
    result = chart.run("template", "demo", str(chart.path), *options)
    assert result.returncode == 0, result.stderr
    objects = [node for node in yaml.safe_load_all(result.stdout) if node]
    assert [problem for node in objects for problem in problems(node)] == []
    job = next(node for node in objects if node["kind"] in ("PyTorchJob", "RayJob"))
    selector = worker(job)["spec"].get("nodeSelector", {})
    assert selector.get("nvidia.com/gpu.product", "") == HARDWARE[run.hardware].product
    raw = parse_yaml(find(objects, "ConfigMap", "demo-run")["data"]["run.yaml"], source=run.file)
    assert isinstance(raw, dict)
    config = validate_run(raw, source=run.file)
    ranks = run.workers[2] * (run.per_worker or 1)
    assert ranks <= config.batch.sequences, "more ranks than the global batch has sequences"


@pytest.mark.parametrize("run", RUNS, ids=lambda run: run.name)
def test_the_run_is_the_presets(run: RunFile, chart: Chart) -> None:
    values = load_yaml(chart.path / run.file)
    assert isinstance(values, dict)
    preset = load_run_config(run.preset)
    raw = merged({"name": preset.name, "data": {"train": preset.data.train[0].path}}, values["run"])
    here = validate_run(raw, source=run.file)
    same = {"model", "optimizer", "schedule", "sequence_length", "steps", "epochs", "tokens", "precision"}
    assert here.model_dump(include=same) == preset.model_dump(include=same)
    assert here.batch.sequences == preset.batch.sequences


@pytest.mark.parametrize("run", [run for run in RUNS if "store" not in run.more], ids=lambda run: run.name)
def test_what_only_the_user_knows_is_asked_for(chart: Chart, run: RunFile) -> None:
    options = ("--kube-version", KUBERNETES, "--values", str(chart.path / run.file))
    result = chart.run("template", "demo", str(chart.path), *options)
    assert "at '/run/data': missing property 'train'" in result.stderr
    result = chart.run("template", "demo", str(chart.path), *options, *TO_SET[2:])
    assert "store.url: empty" in result.stderr
