"""templates/crd.yaml of the platform."""

from __future__ import annotations

from operators import crd
from tests.charts.rendering import Chart


def test_default_is_what_the_models_say(platform: Chart) -> None:
    made = platform.one("CustomResourceDefinition", crd.NAME)
    assert made["spec"] == crd.document()["spec"]
    assert made["metadata"]["annotations"] == {"helm.sh/resource-policy": "keep"}


def test_default_is_below_the_limit_of_an_annotation(platform: Chart) -> None:
    """`kubectl apply` without --server-side writes all of it into one, which holds 256 KiB."""
    assert len(str(platform.one("CustomResourceDefinition", crd.NAME))) < 200_000


def test_switched(platform: Chart) -> None:
    made = platform.one("CustomResourceDefinition", crd.NAME, {"crds": {"keep": False}})
    assert "annotations" not in made["metadata"]
    assert f"CustomResourceDefinition/{crd.NAME}" not in platform.kinds({"crds": {"enabled": False}})


def test_refused(platform: Chart) -> None:
    assert "/crds/keep" in platform.refusal({"crds": {"keep": "always"}})
