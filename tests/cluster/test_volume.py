"""Runs without a bucket: store and data on a volume, with all the jobs that the chart has beside the training."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cluster import layout
from tests.cluster.client import Namespace, Object
from tests.cluster.conftest import KUBECONFIG, MakeRun
from tests.cluster.runs import RESOURCES, WAIT_SECONDS, settings
from tests.integration.training import PIPELINE, prepare
from trainer.data.tokenizer import load_tokenizer, tokenizer_fingerprint

MANIFESTS = Path(__file__).parents[2] / "manifests"
CLAIM = "gpt-run"
# Tests leave the other node to the platform.
NODE = next(name for name in layout.NODES if name != layout.PLATFORM_NODE)


@pytest.fixture
def volume(namespace: Namespace, tmp_path: Path) -> Path:
    """The folder behind the claim CLAIM, on one node of the test cluster; root's, so pods need their `fsGroup`."""
    if os.environ.get(KUBECONFIG):
        pytest.skip("the folder of the volume has to be on this machine, as the nodes of the test cluster are")
    folder = tmp_path / "volume"
    folder.mkdir(mode=0o755)
    on_node = {"key": "kubernetes.io/hostname", "operator": "In", "values": [NODE]}
    spec = {
        "capacity": {"storage": "5Gi"},
        "accessModes": ["ReadWriteMany"],
        "persistentVolumeReclaimPolicy": "Delete",
        "storageClassName": namespace.name,
        "local": {"path": str(folder)},
        "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [on_node]}]}},
    }
    claim = {
        "accessModes": ["ReadWriteMany"],
        "storageClassName": namespace.name,
        "resources": {"requests": {"storage": "5Gi"}},
    }
    metadata = {"name": CLAIM}
    namespace.apply(
        [
            {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": namespace.name}, "spec": spec},
            {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": metadata, "spec": claim},
        ]
    )
    return folder


def test_a_volume_is_prepared_trained_on_evaluated_and_exported(make_run: MakeRun, volume: Path) -> None:
    prepared, trained = "/store/data/small", "/store/tokenizer"
    pipeline = PIPELINE | {"tokenizer": {"type": "file", "path": trained}}
    run = make_run(
        run={
            "steps": 60,
            "data": {"train": prepared, "validation": prepared},
            "checkpoint": {"every_steps": 20},
        },
        store={"url": "/store/runs", "volume": {"claimName": CLAIM}},
        jobs={
            "resources": RESOURCES,
            "tokenizer": {"enabled": True, "inlinePipeline": PIPELINE, "output": trained},
            "prepare": {"enabled": True, "inlinePipeline": pipeline, "output": prepared, "resources": RESOURCES},
            "evaluate": {"enabled": True, "resources": RESOURCES},
            "export": {"enabled": True},
            "tensorboard": {"enabled": True, "resources": RESOURCES},
        },
    )
    namespace = run.namespace
    # Hooks are over when helm is.
    info = json.loads((volume / "data" / "small" / "dataset.json").read_text())
    assert info["tokenizer"]["fingerprint"] == tokenizer_fingerprint(
        load_tokenizer(volume / "tokenizer/tokenizer.json")
    )
    print("prepared:", {name: split["tokens"] for name, split in info["splits"].items()})

    assert run.wait_for_end() == "Succeeded"
    checkpoints = volume / "runs" / "demo" / "checkpoints"
    newest = sorted(marker.parent for marker in checkpoints.glob("*/COMMITTED.json"))[-1]
    assert newest.name.startswith("step-00000060-")

    namespace.wait("the run in TensorBoard", WAIT_SECONDS, lambda: shown_runs(namespace) == ["demo"])

    jobs = [job["metadata"]["name"] for job in namespace.objects("jobs", "gptrun.io/component=job")]
    # It ends when the run is finished and everything that is left has been evaluated.
    (evaluate,) = [name for name in jobs if name.startswith("demo-evaluate-")]
    namespace.wait("evaluation", WAIT_SECONDS, lambda: succeeded(namespace, evaluate))
    left = [marker.parent for marker in checkpoints.glob("*/COMMITTED.json")]
    evaluated = {one.name: json.loads((one / "eval-validation.json").read_text()) for one in left}
    print({name: each["validation_loss"] for name, each in evaluated.items()})
    assert evaluated[newest.name]["step"] == 60
    assert all(0 < each["validation_loss"] < 7 for each in evaluated.values())

    (export,) = [name for name in jobs if name.startswith("demo-export-")]
    namespace.wait("export", WAIT_SECONDS, lambda: succeeded(namespace, export))
    exported = volume / "runs" / "demo" / "exports" / newest.name
    assert json.loads((exported / "exported.json").read_text())["checkpoint"] == newest.name
    assert generated(exported).startswith("def ")


def shown_runs(namespace: Namespace) -> list[str] | None:
    """What TensorBoard lists behind its Service; None while it does not answer."""
    path = f"/api/v1/namespaces/{namespace.name}/services/demo-tensorboard:6006/proxy/data/runs"
    with contextlib.suppress(RuntimeError, ValueError):
        found: list[str] = json.loads(namespace.kubectl("get", "--raw", path))
        return found
    return None


def test_manifests_applied_by_kubectl_train(
    namespace: Namespace, volume: Path, description: dict[str, str], tmp_path: Path
) -> None:
    """A user's overlay over manifests/overlays/cpu: a run file, an image and a small node."""
    data = prepare(volume)
    mine = tmp_path / "mine"
    mine.mkdir()
    run = {"name": "gpt-run", **settings(f"/store/{data.name}", {"steps": 20})}
    (mine / "run.yaml").write_text(json.dumps({**run, "checkpoint": {"store": "/store/runs"}}))
    (mine / "kustomization.yaml").write_text(json.dumps(overlay(mine, description["image"])))
    arguments = ("--server-side", "--kustomize", str(mine))
    print(namespace.kubectl("apply", *arguments))

    def ended() -> str | None:
        job = namespace.get("pytorchjob", "gpt-run") or {}
        found = [one["type"] for one in job.get("status", {}).get("conditions") or [] if one["status"] == "True"]
        return next((end for end in ("Succeeded", "Failed") if end in found), None)

    assert namespace.wait("end of gpt-run", 600, ended) == "Succeeded"
    markers = sorted(marker.parent.name for marker in volume.glob("runs/gpt-run/checkpoints/*/COMMITTED.json"))
    assert markers[-1].startswith("step-00000020-")


def overlay(folder: Path, image: str) -> Object:
    """The kustomization.yaml of docs/kubernetes.md, with the tests' image and requests that fit a test node."""
    repository, _, tag = image.rpartition(":")
    worker = "/spec/pytorchReplicaSpecs/Worker"
    patch = [
        {"op": "replace", "path": f"{worker}/template/spec/containers/0/resources", "value": RESOURCES},
        {"op": "replace", "path": f"{worker}/replicas", "value": 2},
    ]
    return {
        "resources": [os.path.relpath(MANIFESTS / "overlays" / "cpu", folder)],
        "images": [{"name": "ghcr.io/gpt-run/trainer", "newName": repository, "newTag": tag}],
        "configMapGenerator": [
            {
                "name": "gpt-run-run",
                "behavior": "replace",
                "files": ["run.yaml"],
                "options": {"disableNameSuffixHash": True},
            }
        ],
        "patches": [{"target": {"kind": "PyTorchJob"}, "patch": json.dumps(patch)}],
    }


def succeeded(namespace: Namespace, job: str) -> bool:
    """Whether a Job is complete; fails if it has failed."""
    found = namespace.get("job", job)
    assert found is not None, f"no Job {job}"
    conditions = {one["type"]: one for one in found["status"].get("conditions", []) if one["status"] == "True"}
    assert "Failed" not in conditions, f"{conditions}\n{namespace.dump()}"
    return "Complete" in conditions


def generated(model: Path) -> str:
    """Text of an exported model."""
    command = [sys.executable, "-m", "trainer", "generate", str(model), "--prompt", "def ", "--max-tokens", "20"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert result.returncode == 0, result.stderr
    return result.stdout
