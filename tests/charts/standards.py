"""What every object of the chart has to meet: Kubernetes' schemas, CRDs', pod security, the labels of the product."""

from __future__ import annotations

import functools
import re
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import yaml

from charts.generator.manifests import KUBERNETES
from operators import crd
from tests.charts.rendering import Object, pods
from tests.cluster.tools import ADDONS, KUBERAY, KUEUE, module_folder

# Kind of a custom resource -> the pins of its controller, the module, and where its CRD lies in it.
CRDS = {
    "PyTorchJob": (
        ADDONS,
        "github.com/kubeflow/training-operator",
        "manifests/base/crds/kubeflow.org_pytorchjobs.yaml",
    ),
    "RayJob": (KUBERAY, "github.com/ray-project/kuberay/ray-operator", "config/crd/bases/ray.io_rayjobs.yaml"),
    **{
        kind: (KUEUE, "sigs.k8s.io/kueue", f"config/components/crd/bases/kueue.x-k8s.io_{kind.lower()}s.yaml")
        for kind in ("ClusterQueue", "LocalQueue", "ResourceFlavor")
    },
}
# Resources whose CRD is not in a module that is pinned here; they are checked field by field.
UNCHECKED = ("PrometheusRule", "ServiceMonitor")
LABELS = (
    "gptrun.io/run",
    "gptrun.io/component",
    *(f"app.kubernetes.io/{name}" for name in ("name", "instance", "version", "component", "part-of", "managed-by")),
)
_LABEL_VALUE = re.compile(r"^([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?$")
_DNS_LABEL = re.compile(r"^[a-z]([-a-z0-9]{0,61}[a-z0-9])?$")


def problems(node: Object, labels: tuple[str, ...] = LABELS) -> list[str]:
    """All that is wrong with an object, which has to have these labels."""
    name = f"{node['kind']}/{node['metadata']['name']}"
    found = [*_schema_problems(node), *_name_problems(node, labels)]
    for pod in pods(node):
        found += [*_pod_schema_problems(pod), *insecurities(pod["spec"]), *_label_problems(pod["metadata"], labels)]
    return [f"{name}: {problem}" for problem in found]


def _schema_problems(node: Object) -> list[str]:
    if node["kind"] in UNCHECKED:
        return []
    if node["kind"] in (*CRDS, "TrainingRun"):
        errors = jsonschema.Draft202012Validator(_crd_schema(node["kind"], node["apiVersion"])).iter_errors(node)
        return [f"{error.json_path}: {error.message}" for error in errors]
    return _kubernetes_problems(node)


def _pod_schema_problems(pod: Object) -> list[str]:
    """A pod by Kubernetes' own schema; CRDs hold less of it."""
    return _kubernetes_problems({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}, "spec": pod["spec"]})


def _kubernetes_problems(node: Object) -> list[str]:
    try:
        kubernetes_validate.validate(node, KUBERNETES, strict=True)
    except kubernetes_validate.ValidationError as error:
        return [f"{error.json_path}: {error.message}"]
    return []


@functools.cache
def _crd_schema(kind: str, api_version: str) -> Any:
    definition = crd.document()
    if kind in CRDS:
        pins, module, file = CRDS[kind]
        definition = yaml.load((Path(module_folder(pins, module)) / file).read_text(), Loader=yaml.CSafeLoader)
    version = next(item for item in definition["spec"]["versions"] if item["name"] == api_version.split("/")[1])
    schema = _strict(version["schema"]["openAPIV3Schema"])
    schema["properties"]["metadata"] = {"type": "object"}
    return schema


def _strict(node: Any) -> Any:
    """An OpenAPI schema of a CRD as JSON Schema that refuses unknown keys."""
    if isinstance(node, list):
        return [_strict(item) for item in node]
    if not isinstance(node, dict):
        return node
    if node.get("x-kubernetes-int-or-string"):
        return {"type": ["integer", "string"]}
    kept = {key: _strict(value) for key, value in node.items() if key != "format"}
    if isinstance(node.get("properties"), dict) and node.get("type") == "object":
        kept.setdefault("additionalProperties", False)
    return kept


def _name_problems(node: Object, labels: tuple[str, ...]) -> list[str]:
    name = node["metadata"]["name"]
    # A RayJob's clusters have longer names than the object.
    limit = {"RayJob": 47}.get(node["kind"], 63)
    if node["kind"] == "CustomResourceDefinition":
        # PLURAL.GROUP, by the API server's own rule.
        return _label_problems(node["metadata"], labels)
    found = [] if _DNS_LABEL.match(name) and len(name) <= limit else [f"name {name!r}"]
    return found + _label_problems(node["metadata"], labels)


def _label_problems(metadata: Object, expected: tuple[str, ...]) -> list[str]:
    labels = metadata.get("labels", {})
    missing = [f"label {label} is missing" for label in expected if label not in labels]
    return missing + [f"label {key}: {value!r}" for key, value in labels.items() if not _LABEL_VALUE.match(value)]


def insecurities(spec: Object) -> list[str]:
    """Where a pod falls short of the restricted Pod Security Standard, and of this product's own rules."""
    pod = spec.get("securityContext", {})
    found = [f"{key}: true" for key in ("hostNetwork", "hostPID", "hostIPC") if spec.get(key)]
    # The operator alone asks the API server.
    holds = [item["name"] for item in spec["containers"] if "operators" in item.get("command", [])]
    if spec.get("automountServiceAccountToken") is not bool(holds):
        found.append("holds an API token")
    if pod.get("runAsNonRoot") is not True or pod.get("runAsUser") == 0:
        found.append("may run as root")
    if pod.get("seccompProfile", {}).get("type") not in ("RuntimeDefault", "Localhost"):
        found.append("has no seccomp profile")
    allowed = {
        "configMap",
        "emptyDir",
        "persistentVolumeClaim",
        "projected",
        "secret",
        "downwardAPI",
        "csi",
        "ephemeral",
    }
    for volume in spec.get("volumes", []):
        found += [f"volume of type {kind}" for kind in set(volume) - {"name"} - allowed]
    for item in [*spec["containers"], *spec.get("initContainers", [])]:
        own = item.get("securityContext", {})
        if own.get("allowPrivilegeEscalation") is not False or own.get("privileged"):
            found.append(f"{item['name']} may gain privileges")
        if own.get("capabilities", {}).get("drop") != ["ALL"] or own.get("capabilities", {}).get("add"):
            found.append(f"{item['name']} has capabilities")
        if own.get("readOnlyRootFilesystem") is not True:
            found.append(f"{item['name']} may write its root file system")
        found += [f"{item['name']} uses a port of the node" for port in item.get("ports", []) if "hostPort" in port]
    return found
