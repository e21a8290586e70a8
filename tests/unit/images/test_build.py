"""images/build.py: which builder it takes, what it tells it, and what reaches the build of this machine's pip."""

from __future__ import annotations

import argparse
import configparser
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from images import build

SCRIPT = Path(build.__file__)
LABELS = {"VERSION": "1.2.3"}


def program(folder: Path, name: str, script: str) -> None:
    """An executable of this name that runs a shell script."""
    file = folder / name
    file.write_text(f"#!/bin/sh\n{script}\n")
    file.chmod(0o755)


def options(*arguments: str) -> argparse.Namespace:
    return build.parse(["--tag", "1.2.3", *arguments])


def test_takes_the_first_builder_that_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(tmp_path, "buildah", "echo 'cannot set up namespace' >&2; exit 1")
    program(tmp_path, "docker", "exit 0")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert build.find_builder() == "docker"
    program(tmp_path, "podman", "exit 0")
    assert build.find_builder() == "podman"


def test_says_what_is_missing_when_nothing_can_build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(tmp_path, "docker", "echo 'Client: 28' ; echo 'cannot connect to the daemon' >&2; exit 1")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SystemExit) as ended:
        build.find_builder()
    message = str(ended.value)
    assert "buildah is not on PATH; podman is not on PATH" in message
    assert "`docker info` fails: cannot connect to the daemon" in message
    assert "Install buildah or podman" in message


@pytest.mark.parametrize("builder", build.BUILDERS)
def test_names_file_tag_and_context(builder: str) -> None:
    command = build.build_command(builder, "trainer", options("--repository", "example.org/a"), LABELS, {})
    assert command[0] == builder
    assert command[-1] == "."
    assert command[command.index("--file") + 1] == "images/trainer/Containerfile"
    assert command[command.index("--tag") + 1] == "example.org/a/trainer:1.2.3"
    assert "VERSION=1.2.3" in command


def test_base_platform_and_torch_index_are_arguments_of_the_build() -> None:
    asked = options(
        "--base", "example.org/cuda:13", "--torch-index", "https://example.org/cpu", "--platform", "linux/arm64"
    )
    trainer = build.build_command("podman", "trainer", asked, LABELS, {})
    assert {"BASE=example.org/cuda:13", "TORCH_INDEX=https://example.org/cpu", "linux/arm64"} <= set(trainer)
    operator = build.build_command("podman", "operator", asked, LABELS, {})
    assert "BASE=example.org/cuda:13" in operator
    assert not any("TORCH_INDEX" in argument for argument in operator)


def test_arguments_behind_the_dashes_go_to_the_builder() -> None:
    command = build.build_command("buildah", "trainer", options("trainer", "--", "--isolation", "chroot"), LABELS, {})
    assert command[-3:] == ["--isolation", "chroot", "."]


def test_a_push_carries_sbom_and_provenance_and_uses_docker() -> None:
    asked = options("trainer", "--push", "--cache", "example.org/trainer:cache")
    assert asked.builder == "docker"
    command = build.build_command("docker", "trainer", asked, LABELS, {})
    assert {"--push", "--sbom=true", "--provenance=mode=max"} <= set(command)
    assert "--load" not in command
    assert command[command.index("--cache-from") + 1] == "type=registry,ref=example.org/trainer:cache"


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["trianer"], "unknown image 'trianer': there are trainer and operator"),
        (["--push", "--builder", "buildah"], "--push and --cache need docker's buildx, not buildah"),
        (["--cache", "example.org/a:cache"], "--cache belongs to one image"),
        (["--platform", "linux/amd64,linux/arm64"], "--platform takes one platform"),
    ],
)
def test_refuses_in_words(arguments: list[str], complaint: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        options(*arguments)
    assert complaint in capsys.readouterr().err


def test_pip_settings_go_by_pips_own_precedence() -> None:
    listing = "\n".join(
        [
            "global.index-url='https://example.org/global'",
            "global.extra-index-url='https://example.org/more'",
            "install.index-url='https://example.org/install'",
            "freeze.exclude='x'",
            ":env:.default-timeout='180'",
        ]
    )
    expected = {
        "index-url": "https://example.org/install",
        "extra-index-url": "https://example.org/more",
        "timeout": "180",
    }
    assert build.parse_pip_settings(listing) == expected


def test_secrets_tell_where_packages_are_and_no_path_of_this_machine(tmp_path: Path) -> None:
    bundle = tmp_path / "bundle.pem"
    bundle.touch()
    settings = {
        "index-url": "https://user:50%25@example.org",
        "find-links": "/opt/wheels",
        "cert": str(bundle),
        "user": "1",
    }
    secrets = build.write_secrets(tmp_path, settings, {"PIP_CERT": "/absent.pem"})
    assert secrets == {"pip-config": tmp_path / "pip.conf", "ca-certificates": bundle}
    written = configparser.RawConfigParser()
    written.read(secrets["pip-config"])
    assert {section: dict(written[section]) for section in written.sections()} == {
        "global": {"index-url": "https://user:50%25@example.org"}
    }


def test_no_secrets_where_pip_is_not_configured(tmp_path: Path) -> None:
    assert build.write_secrets(tmp_path, {}, {}) == {}


def test_a_build_sees_its_secret_and_leaves_none_behind(tmp_path: Path) -> None:
    """The whole script with a builder that prints the file it is given."""
    program(
        tmp_path, "buildah", 'for a in "$@"; do case "$a" in id=pip-config,src=*) cat "${a#*src=}"; esac; done; pwd'
    )
    environment = {
        "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}",
        "PIP_INDEX_URL": "https://example.org/simple",
        "TMPDIR": str(tmp_path),
    }
    command = [sys.executable, str(SCRIPT), "trainer"]
    built = subprocess.run(
        command, env=os.environ | environment, cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert "index-url = https://example.org/simple" in built.stdout
    assert built.stdout.splitlines()[-1] == str(build.ROOT)
    assert [entry.name for entry in tmp_path.iterdir()] == ["buildah"]


def test_a_failed_build_ends_with_its_name(tmp_path: Path) -> None:
    program(tmp_path, "buildah", 'test "$1" = info')
    environment = os.environ | {"PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"}
    command = [sys.executable, str(SCRIPT), "operator"]
    built = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert built.returncode == 1
    assert "buildah could not build the operator image (exit code 1, see above)" in built.stderr


def test_a_dry_run_prints_one_command_for_each_image() -> None:
    command = [sys.executable, str(SCRIPT), "--dry-run", "--builder", "podman"]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    files = [shlex.split(line)[shlex.split(line).index("--file") + 1] for line in printed.splitlines()]
    assert files == ["images/trainer/Containerfile", "images/operator/Containerfile"]
