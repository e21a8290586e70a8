"""templates/configmap.yaml: the run file as workers read it."""

from __future__ import annotations

import pytest

from tests.charts.rendering import Chart, Object
from trainer.config import RunConfig
from trainer.config_file import validate_run
from trainer.yaml_dialect import parse_yaml


def run_of(chart: Chart, values: Object | None = None, release: str = "demo") -> RunConfig:
    node = next(item for item in chart.render(values, release=release) if item["metadata"]["name"] == f"{release}-run")
    raw = parse_yaml(node["data"]["run.yaml"], source="run.yaml")
    assert isinstance(raw, dict)
    return validate_run(raw, source="run.yaml")


def test_default_name_store_and_grace_are_the_charts(chart: Chart) -> None:
    run = run_of(chart, release="first")
    assert (run.name, run.checkpoint.store, run.elastic.grace_seconds) == ("first", "s3://bucket/runs", 165)
    assert set(chart.one("ConfigMap", "demo-run")["data"]) == {"run.yaml"}


def test_switched_values_arrive_as_they_are(chart: Chart) -> None:
    values = {
        "lifecycle": {"gracePeriodSeconds": 60},
        "run": {
            "name": "other",
            "steps": None,
            "tokens": 10_000_000_000,
            "seed": 0,
            "optimizer": {"type": "adamw", "eps": 1e-10},
            "parallel": {"compile": False},
            "evaluate": {"every_steps": 0},
            "elastic": {"grace_seconds": 30, "budget": {"failures": 0}},
        },
    }
    run = run_of(chart, values)
    assert (run.name, run.steps, run.tokens, run.seed) == ("other", None, 10_000_000_000, 0)
    assert run.optimizer.model_dump()["eps"] == 1e-10
    assert (run.elastic.grace_seconds, run.elastic.budget.failures) == (30, 0)


def test_switched_union_by_nulls(chart: Chart) -> None:
    """Another optimizer than an earlier values file's: its keys are nulled, and null means nothing to the run."""
    first = chart.folder / "first.yaml"
    first.write_text("run: {optimizer: {type: adamw, lr: 1.0e-3, eps: 1.0e-9}}")
    second = {"run": {"optimizer": {"type": "muon", "eps": None}}}
    result = chart.template(second, "--values", str(first))
    assert result.returncode == 0, result.stderr
    assert "type: muon" in result.stdout


def test_switched_price_of_a_gpu_is_that_of_the_run_unless_it_has_its_own(chart: Chart) -> None:
    gpu = {"pricePerHour": 2.5, "currency": "EUR"}
    assert run_of(chart).cost.price_per_gpu_hour is None
    cost = run_of(chart, {"gpu": gpu}).cost
    assert (cost.price_per_gpu_hour, cost.currency) == (2.5, "EUR")
    own = run_of(chart, {"gpu": gpu, "run": {"cost": {"price_per_gpu_hour": 1.0, "currency": "USD"}}}).cost
    assert (own.price_per_gpu_hour, own.currency) == (1.0, "USD")


def test_switched_null_is_the_default_in_the_charts_own_keys_too(chart: Chart) -> None:
    values = {"lifecycle": {"gracePeriodSeconds": 60}, "run": {"elastic": None, "checkpoint": None, "name": None}}
    run = run_of(chart, values)
    assert (run.name, run.checkpoint.store, run.elastic.grace_seconds) == ("demo", "s3://bucket/runs", 45)


@pytest.mark.parametrize(
    ("run", "key"),
    [
        ({"optimizer": {"type": "sgd"}}, "/run/optimizer/type"),
        ({"optimizer": {"type": "adamw", "rate": 1}}, "/run/optimizer': additional properties 'rate'"),
        ({"optimizer": {"type": "adamw", "lr": "1e-4"}}, "/run/optimizer/lr': got string"),
        ({"model": {"family": "bert"}}, "/run/model/family"),
        ({"batch": {"sequences": 0}}, "/run/batch/sequences"),
        ({"stepss": 1}, "/run': additional properties 'stepss'"),
        ({"data": {"train": None}}, "/run/data"),
    ],
)
def test_refused_keys_of_the_run_are_named(chart: Chart, run: Object, key: str) -> None:
    assert key in chart.refusal({"run": run})


def test_refused_a_second_store(chart: Chart) -> None:
    said = chart.refusal({"run": {"checkpoint": {"store": "s3://other"}}})
    assert 'run.checkpoint.store: "s3://other", and store.url is "s3://bucket/runs"' in said


@pytest.mark.parametrize(
    ("store", "words"),
    [
        ({"url": ""}, "store.url: empty; say where checkpoints go"),
        ({"url": "./runs"}, "is a folder, which is lost with its pod"),
        ({"url": "/elsewhere", "volume": {"claimName": "disk"}}, "does not lie below store.volume.mountPath"),
        ({"secretMountPath": "/keys"}, "store.secretMountPath: no Secret to mount"),
    ],
)
def test_refused_stores(chart: Chart, store: Object, words: str) -> None:
    assert words in chart.refusal({"store": store})


def test_refused_a_grace_that_does_not_fit(chart: Chart) -> None:
    said = chart.refusal({"run": {"elastic": {"grace_seconds": 170}}})
    assert "run.elastic.grace_seconds: 170; lifecycle.gracePeriodSeconds 180 leaves workers 165 s" in said


@pytest.mark.parametrize("name", ["a" * 41, "1st", "Run", "a.b"])
def test_refused_names(chart: Chart, name: str) -> None:
    said = chart.refusal({"run": {"name": name}})
    assert "/run/name" in said
    if name.islower() and "." not in name:
        assert "the release name" in chart.refusal({}, release=name)


def test_the_longest_name_is_rendered(chart: Chart) -> None:
    assert run_of(chart, release="a" * 40).name == "a" * 40
