"""The definition of TrainingRun on a real API server: defaults, rules in words, what kubectl shows, upgrades."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from charts.generator.values import CHART
from operators import api, crd
from operators.api import TrainingRunSpec, TrainingRunStatus
from tests.cluster.api_charts import (
    SYSTEM,
    apply_definitions,
    conditions,
    connected,
    definitions_of_others,
    install_platform,
    install_run,
    refusal,
    started,
)
from tests.cluster.client import Cluster, Namespace, Object

# The definition as it was first released; never changed.
FIRST = Path(__file__).parent / "crds" / "trainingruns-first.yaml"
DAYS_AGO = datetime.now(UTC).replace(microsecond=0) - timedelta(days=10)
REPLICAS_WORDS = "replicas is outside elastic.min..elastic.max: choose a number within, or change elastic"
# All that a status can hold.
STATUS = TrainingRunStatus.model_validate(
    {
        "phase": "Running",
        "conditions": [
            {
                "type": kind,
                "status": "True",
                "reason": "Because",
                "lastTransitionTime": DAYS_AGO,
                "observedGeneration": 1,
            }
            for kind in api.ConditionType
        ],
        "observedGeneration": 1,
        "workers": 3,
        "selector": "gptrun.io/run=demo,gptrun.io/component=worker",
        "step": 1200,
        "stepsTotal": 5000,
        "loss": 2.5,
        "tokensPerSecond": 12345.0,
        "mfu": 0.41,
        "goodput": 0.98,
        "lastCheckpoint": {"name": "step-1200", "step": 1200, "time": DAYS_AGO, "url": "s3://bucket/runs/demo"},
        "restarts": [{"reason": "Preempted", "count": 3}],
        "attempt": 4,
        "estimatedCompletion": DAYS_AGO + timedelta(days=20),
        "suspension": {"reason": "Suspended", "time": DAYS_AGO, "generation": 1, "template": "abc"},
        "failures": {"times": [DAYS_AGO], "seen": {"pod/1": 1}, "lastError": "x"},
        "growthFailures": 2,
    }
)
# The first time an API server is compiled.
pytestmark = [pytest.mark.cluster, pytest.mark.timeout(40 * 60)]


@pytest.fixture(scope="module")
def clusters(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Cluster, Cluster]]:
    """An API server with the platform's chart, and one for definitions of other ages."""
    folder = tmp_path_factory.mktemp("api")
    with started(folder, "now", "ages") as (now, ages):
        current = connected(now, folder / "now")
        install_platform(current)
        yield current, Cluster(ages.kubeconfig(), folder / "ages")


@pytest.fixture
def namespace(clusters: tuple[Cluster, Cluster], request: pytest.FixtureRequest) -> Namespace:
    """Of the test's own, where the current definition holds."""
    return clusters[0].make_namespace(request.node.name.removeprefix("test_"))


def training_run(name: str = "demo", kind: str = "PyTorchJob", **spec: Any) -> Object:
    reference = {"apiVersion": api.API_VERSIONS[api.JobKind(kind)], "kind": kind, "name": name}
    return {
        "apiVersion": f"{api.GROUP}/{api.VERSION}",
        "kind": api.KIND,
        "metadata": {"name": name},
        "spec": {"jobRef": reference, "elastic": {"min": 2, "max": 4}, **spec},
    }


def patch(spec: Any) -> tuple[str, ...]:
    return ("patch", "tr/demo", "--type=merge", "--patch", json.dumps({"spec": spec}))


def write_status(namespace: Namespace, status: TrainingRunStatus = STATUS, name: str = "demo") -> None:
    """As the operator does it."""
    text = json.dumps({"status": status.model_dump(mode="json", by_alias=True)})
    namespace.kubectl("patch", f"tr/{name}", "--subresource=status", "--type=merge", "--patch", text)


def read(namespace: Namespace, name: str = "demo") -> api.TrainingRun:
    found = namespace.get("trainingrun", name)
    assert found is not None
    return api.parse(found)


def test_the_schema_is_structural(clusters: tuple[Cluster, Cluster]) -> None:
    assert conditions(clusters[0], crd.NAME) == {"NamesAccepted": "True", "Established": "True"}


def test_defaults_are_filled_in_and_null_means_the_default(namespace: Namespace) -> None:
    nulls = {"replicas": None, "hang": {"seconds": None}, "nodeLoss": None, "completion": {"deleteAfterSeconds": None}}
    for name, more in (("short", {}), ("nulls", nulls)):
        namespace.apply([training_run(name, **more)])
        found = namespace.get("trainingrun", name)
        assert found is not None
        wanted = TrainingRunSpec.model_validate(training_run(name)["spec"])
        assert found["spec"] == wanted.model_dump(mode="json", by_alias=True, exclude_none=True)
        assert "status" not in found


def test_a_whole_status_comes_back_as_it_was_written(namespace: Namespace) -> None:
    namespace.apply([training_run()])
    write_status(namespace)
    assert read(namespace).status == STATUS
    # Null in a merge patch takes away.
    write_status(namespace, TrainingRunStatus(phase=api.Phase.PENDING))
    found = namespace.get("trainingrun", "demo")
    assert found is not None
    assert "lastCheckpoint" not in found["status"]
    assert read(namespace).generation == 1


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"elastic": {"min": 5}}, "elastic.min is above elastic.max: lower min or raise max"),
        ({"elastic": {"min": 0}}, "spec.elastic.min in body should be greater than or equal to 1"),
        ({"replicas": 1}, REPLICAS_WORDS),
        ({"replicas": 5}, REPLICAS_WORDS),
        ({"replicas": 3, "elastic": {"max": 2}}, REPLICAS_WORDS),
        ({"jobRef": {"name": "other"}}, "jobRef cannot be changed: delete this TrainingRun (its job goes on)"),
        ({"jobRef": {"apiVersion": "ray.io/v1"}}, "apiVersion does not fit kind: PyTorchJob is kubeflow.org/v1"),
        ({"jobRef": {"kind": "Job"}}, 'Unsupported value: "Job": supported values: "PyTorchJob", "RayJob"'),
        ({"hang": {"action": "Kill"}}, 'supported values: "Replace", "Report"'),
        ({"restart": {"failures": -1}}, "spec.restart.failures in body should be greater than or equal to 0"),
    ],
)
def test_rules_refuse_in_words(namespace: Namespace, change: Object, words: str) -> None:
    namespace.apply([training_run()])
    assert words in refusal(namespace, *patch(change))


def test_a_wrong_run_is_refused_when_it_is_made(namespace: Namespace) -> None:
    wrong = training_run(replicas=9)
    wrong["spec"]["jobRef"]["apiVersion"] = "batch/v1"
    said = refusal(namespace, "create", "--filename=-", stdin=json.dumps(wrong))
    assert REPLICAS_WORDS in said
    assert "apiVersion does not fit kind" in said
    typo = training_run(suspended=True)
    said = refusal(namespace, "create", "--filename=-", stdin=json.dumps(typo))
    assert 'unknown field "spec.suspended"' in said


@pytest.mark.parametrize("kind", list(api.API_VERSIONS))
def test_kubectl_scale(namespace: Namespace, kind: str) -> None:
    namespace.apply([training_run(kind=kind)])
    namespace.kubectl("scale", "tr/demo", "--replicas=4")
    assert read(namespace).spec.replicas == 4
    for number in (0, 1, 5):
        said = refusal(namespace, "scale", "tr/demo", f"--replicas={number}")
        assert REPLICAS_WORDS in said
        assert 'kubectl patch tr/NAME --type=merge -p \'{"spec":{"suspend":true}}\'' in said
    write_status(namespace)
    scale = json.loads(namespace.kubectl("get", "tr/demo", "--subresource=scale", "--output=json"))
    assert scale["spec"] == {"replicas": 4}
    assert scale["status"] == {"replicas": 3, "selector": STATUS.selector}


def test_kubectl_patch_suspends(namespace: Namespace) -> None:
    """The command that the refusal names."""
    namespace.apply([training_run()])
    namespace.kubectl("patch", "tr/demo", "--type=merge", "-p", '{"spec":{"suspend":true}}')
    assert read(namespace).spec.suspend
    assert read(namespace).generation == 2


def test_kubectl_get_shows_how_it_goes(namespace: Namespace) -> None:
    namespace.apply([training_run()])
    write_status(namespace)
    for words in (("tr",), ("trainingrun", "demo"), (crd.CATEGORY,)):
        header, line = namespace.kubectl("get", *words).splitlines()
        titles = "NAME PHASE WORKERS STEP LOSS TOKENS/S MFU CHECKPOINT GOODPUT AGE"
        assert header.split() == titles.split()
        assert line.split()[:9] == ["demo", "Running", "3", "1200", "2.5", "12345", "0.41", "10d", "0.98"]
    wide = namespace.kubectl("get", "tr", "--output=wide")
    assert "5000" in wide
    assert STATUS.model_dump(mode="json", by_alias=True)["estimatedCompletion"] in wide


def test_kubectl_wait(namespace: Namespace) -> None:
    """It believes no condition that was said of an older generation."""
    namespace.apply([training_run()])
    write_status(namespace)
    namespace.kubectl("wait", "--for=condition=Succeeded", "tr/demo", "--timeout=10s")
    namespace.kubectl(*patch({"suspend": True}))
    assert "timed out" in refusal(namespace, "wait", "--for=condition=Succeeded", "tr/demo", "--timeout=1s")


def test_status_and_spec_are_written_apart(namespace: Namespace) -> None:
    namespace.apply([training_run()])
    write_status(namespace)
    namespace.kubectl("patch", "tr/demo", "--type=merge", "--patch", '{"status":{"step":1},"spec":{"suspend":true}}')
    text = '{"status":{"step":1300},"spec":{"suspend":false}}'
    namespace.kubectl("patch", "tr/demo", "--subresource=status", "--type=merge", "--patch", text)
    run = read(namespace)
    assert (run.status.step, run.spec.suspend) == (1300, True)


def test_the_run_of_the_chart_is_taken(namespace: Namespace) -> None:
    install_run(namespace, "demo", "--set", "policy.enabled=true", "--set", "policy.completion.deleteAfterSeconds=60")
    run = read(namespace)
    assert run.spec.job_ref.name == "demo"
    assert run.spec.completion.delete_after_seconds == 60
    # An upgrade leaves alone what kubectl set.
    namespace.kubectl("scale", "tr/demo", "--replicas=1")
    namespace.kubectl("patch", "tr/demo", "--type=merge", "-p", '{"spec":{"suspend":true}}')
    install = ["--reuse-values", "--set", "policy.restart.failures=5", "--no-hooks"]
    namespace.helm("upgrade", "demo", str(CHART), *install)
    spec = read(namespace).spec
    assert (spec.replicas, spec.suspend, spec.restart.failures) == (1, True, 5)


def test_objects_survive_the_upgrade_from_the_first_release(clusters: tuple[Cluster, Cluster]) -> None:
    """And one to a definition that has a field more, in spec and in status."""
    ages = clusters[1]
    first = yaml.safe_load(FIRST.read_text())
    apply_definitions(ages, [first])
    namespace = ages.make_namespace("upgrade")
    namespace.apply([training_run(replicas=3, restart={"failures": 7})])
    write_status(namespace)
    before = namespace.get("trainingrun", "demo")
    assert before is not None

    now = crd.document()
    later = copy.deepcopy(now)
    properties = later["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]
    properties["spec"]["properties"]["novel"] = {
        "type": "object",
        "default": {},
        "properties": {"seconds": {"type": "integer", "default": 5}},
    }
    properties["status"]["properties"]["novelty"] = {"type": "string"}
    for definition in (now, later):
        apply_definitions(ages, [definition])
        namespace.wait("the new schema", 30, lambda definition=definition: serves(ages, definition))
        found = namespace.get("trainingrun", "demo")
        assert found is not None
        assert before["spec"].items() <= found["spec"].items()
        assert found["status"] == before["status"]
        assert api.parse(found).status == STATUS
        namespace.kubectl("scale", "tr/demo", "--replicas=4")
        namespace.kubectl("scale", "tr/demo", "--replicas=3")
    assert found["spec"]["novel"] == {"seconds": 5}


def test_an_older_definition_lacks_a_field_and_runs_go_on(clusters: tuple[Cluster, Cluster]) -> None:
    """Nobody's words are lost unsaid: kubectl refuses, helm warns; the operator takes the default."""
    ages = clusters[1]
    older = crd.document()
    properties = older["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]
    del properties["spec"]["properties"]["nodeLoss"]
    del properties["status"]["properties"]["growthFailures"]
    apply_definitions(ages, [older])
    namespace = ages.make_namespace("older")
    namespace.wait("the old schema", 30, lambda: serves(ages, older))
    said = refusal(namespace, "create", "--filename=-", stdin=json.dumps(training_run(nodeLoss={"seconds": 60})))
    assert 'unknown field "spec.nodeLoss"' in said
    namespace.apply([training_run()])
    write_status(namespace)
    run = read(namespace)
    assert run.spec.node_loss == api.NodeLoss()
    assert run.status == STATUS.model_copy(update={"growth_failures": 0})


def serves(cluster: Cluster, definition: Object) -> bool:
    """Whether the API server has taken the schema over, which takes it a moment."""
    wanted = definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]
    document = json.loads(cluster.kubectl("get", "--raw", f"/openapi/v3/apis/{api.GROUP}/{api.VERSION}"))
    schemas = document["components"]["schemas"]
    served = next(schema for name, schema in schemas.items() if name.endswith(f".{api.KIND}"))
    return set(served["properties"]["spec"]["properties"]) == set(wanted)


def test_everything_of_the_chart_is_taken_and_the_definition_stays(clusters: tuple[Cluster, Cluster]) -> None:
    cluster = clusters[0]
    apply_definitions(cluster, definitions_of_others())
    cluster.kubectl("create", "namespace", "team-a")
    quota = {"nvidia.com/gpu": 64, "cpu": 1000, "memory": "8Ti"}
    flavors = [
        {"name": "h100", "nodeLabels": {"nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3"}, "quota": quota},
        {"name": "spot", "tolerations": [{"key": "spot", "operator": "Exists"}], "quota": {**quota, "cpu": 1.5}},
    ]
    values: Object = {
        **{name: {"enabled": True} for name in ("serviceMonitor", "dcgmCounters", "rules", "priorityClasses")},
        "operator": {"namespace": "team-a", "serviceMonitor": {"enabled": True}},
        "quotas": {"team-a": {"requests.nvidia.com/gpu": 64, "count/trainingruns.gptrun.io": 1}},
        "kueue": {"enabled": True, "cohort": "all", "flavors": flavors, "localQueues": {"team-a": "gpt-run"}},
    }
    install_platform(cluster, values)
    namespace = Namespace(cluster, "team-a")
    namespace.apply([training_run()])
    cluster.run("helm", "uninstall", "gpt-platform", "--namespace", SYSTEM)
    assert read(namespace).spec.elastic.max == 4
    # The next release takes it over.
    install_platform(cluster)
    assert read(namespace).spec.elastic.max == 4
