"""Whether the cluster's definition of TrainingRun is as new as this operator. Pure; `__main__` asks and tells.

Helm installs a CustomResourceDefinition once and never again, so an upgraded operator may stand before an older one:
the API server then drops what it does not know, silently.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from operators.api import KIND

SCHEMAS = "/openapi/v3/apis/gptrun.io/v1alpha1"


def missing_fields(served: dict[str, Any], own: dict[str, Any]) -> list[str]:
    """Paths of fields that the operator's own definition has and the served OpenAPI document lacks."""
    schemas = (served.get("components") or {}).get("schemas") or {}
    found: dict[str, Any] = next((schema for name, schema in schemas.items() if name.endswith(f".{KIND}")), {})
    version = own["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    parts = ("spec", "status")
    return [
        path
        for part in parts
        for path in _missing((found.get("properties") or {}).get(part) or {}, version["properties"][part], part)
    ]


def _missing(found: dict[str, Any], wanted: dict[str, Any], path: str) -> Iterator[str]:
    known = found.get("properties") or {}
    for name, schema in (wanted.get("properties") or {}).items():
        if name not in known:
            yield f"{path}.{name}"
        else:
            yield from _missing(known[name], schema, f"{path}.{name}")
