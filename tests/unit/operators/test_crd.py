"""operators/crd.py: the models as the API server takes them, and only additive changes since the first release."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
import yaml
from pydantic import Field

from operators import api, crd
from operators.api import Model

FIRST = Path(__file__).parents[2] / "cluster" / "crds" / "trainingruns-first.yaml"
Schema = dict[str, Any]
# What the API server's structural schemas know (apiextensions.k8s.io/v1, JSONSchemaProps), as far as we use it.
KNOWN = {
    *("type", "format", "description", "enum", "default", "required", "properties", "items", "additionalProperties"),
    *("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "minLength", "maxLength", "pattern"),
    *("x-kubernetes-validations", "x-kubernetes-list-type", "x-kubernetes-list-map-keys"),
}


class Inner(Model):
    """A section."""

    share: Annotated[float, Field(gt=0, lt=1)] = 0.5
    """Of all."""


class Sample(Model):
    """Everything that JSON Schema and the API server spell in different ways."""

    inner: Inner = Inner()
    """Said here."""
    perhaps: Inner | None = None
    fixed: Literal["only"] = "only"
    number: Annotated[int, Field(ge=1)] | None = None
    """Over
    two lines."""
    by_name: dict[str, int] = Field(default={})
    many: list[Inner] = Field(default=[])


def fields(node: Schema, path: str = "") -> Iterator[tuple[str, Schema]]:
    """All fields below, by path."""
    for key, value in node.get("properties", {}).items():
        yield f"{path}.{key}", value
        yield from fields(value, f"{path}.{key}")
        yield from fields(value.get("items", {}), f"{path}.{key}[]")


def schema_of(definition: dict[str, Any]) -> Schema:
    (version,) = definition["spec"]["versions"]
    found: Schema = version["schema"]["openAPIV3Schema"]
    return found


def test_each_spelling_is_the_older_one() -> None:
    share = {
        "type": "number",
        "description": "Of all.",
        "default": 0.5,
        "minimum": 0,
        "exclusiveMinimum": True,
        "maximum": 1,
        "exclusiveMaximum": True,
    }
    inner = {"type": "object", "properties": {"share": share}}
    assert crd.structural(Sample)["properties"] == {
        "inner": {**inner, "description": "Said here.", "default": {}},
        "perhaps": {**inner, "description": "A section."},
        "fixed": {"type": "string", "enum": ["only"], "default": "only"},
        "number": {"type": "integer", "minimum": 1, "description": "Over two lines."},
        "byName": {"type": "object", "additionalProperties": {"type": "integer"}, "default": {}},
        "many": {"type": "array", "items": {**inner, "description": "A section."}, "default": []},
    }


def test_what_a_definition_cannot_say_is_refused() -> None:
    class Either(Model):
        either: int | str

    class Pair(Model):
        pair: tuple[int, int]

    with pytest.raises(ValueError, match="no field of two types"):
        crd.structural(Either)
    with pytest.raises(ValueError, match="prefixItems"):
        crd.structural(Pair)


def test_the_schema_is_structural() -> None:
    for path, node in fields(crd.schema()):
        assert node.keys() <= KNOWN, path
        assert "type" in node, path
        assert "default" not in node or not path.startswith(".status"), path


def test_every_field_of_the_spec_says_what_it_is() -> None:
    assert [path for path, node in fields(crd.schema()["properties"]["spec"]) if "description" not in node] == []


def test_columns_and_subresources_show_fields_that_are_there() -> None:
    known = {path for path, _ in fields(crd.schema())} | {".metadata.creationTimestamp"}
    (version,) = crd.document()["spec"]["versions"]
    shown = [column["jsonPath"] for column in version["additionalPrinterColumns"]]
    assert [path for path in [*shown, *version["subresources"]["scale"].values()] if path not in known] == []


def test_every_kind_of_job_has_its_version() -> None:
    assert set(api.API_VERSIONS) == set(api.JobKind)


def test_changes_since_the_first_release_are_additive() -> None:
    """Fails for a change that would refuse, lose or give another meaning to what is in somebody's cluster."""
    first = schema_of(yaml.safe_load(FIRST.read_text()))
    now = dict(fields(crd.schema()))
    for path, old in fields(first):
        assert path in now, f"{path} is gone"
        new = now[path]
        for key in ("type", "format", "default"):
            assert new.get(key) == old.get(key), f"{path}: another {key}"
        assert set(new.get("enum", ())) >= set(old.get("enum", ())), f"{path}: a word less"
        assert set(new.get("required", ())) <= set(old.get("required", ())), f"{path}: needs more"
        for limit in ("minimum", "minLength"):
            assert new.get(limit, 0) <= old.get(limit, 0), f"{path}: {limit}"
        for limit in ("maximum", "maxLength"):
            assert new.get(limit, 1e99) >= old.get(limit, 1e99), f"{path}: {limit}"
        assert len(new.get("x-kubernetes-validations", ())) <= len(old.get("x-kubernetes-validations", ())), path
