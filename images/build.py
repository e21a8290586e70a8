"""Build the project's container images with buildah, podman or docker; `make images` calls it.

Needs only Python. pip inside the build uses this machine's package index: what `pip config` says here, environment
included, reaches the build as a secret and never the image. Examples:

    python3 images/build.py                                     # both images, for this machine, on the CPU or CUDA 13
    python3 images/build.py trainer --torch-index https://download.pytorch.org/whl/cpu --tag 0.1.0-cpu
    python3 images/build.py trainer --base docker.io/nvidia/cuda:13.0.1-base-ubuntu24.04
    python3 images/build.py --platform linux/arm64 --push       # docker's buildx: with SBOM and provenance
    python3 images/build.py trainer --builder buildah -- --isolation chroot
"""

from __future__ import annotations

import argparse
import ast
import configparser
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).parent.parent
IMAGES = ("trainer", "operator")
BUILDERS = ("buildah", "podman", "docker")
# What of pip's settings says where packages come from; paths of this machine would mean nothing in the build.
PIP_SETTINGS = frozenset({"index-url", "extra-index-url", "find-links", "trusted-host", "proxy", "timeout", "retries"})
CERTIFICATE_VARIABLES = ("PIP_CERT", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE")


def main() -> None:
    """Build what the command line asks for, one image after the other."""
    options = parse(sys.argv[1:])
    builder = options.builder or find_builder()
    labels = build_labels(options.source)
    with tempfile.TemporaryDirectory(prefix="gpt-run-build-") as folder:
        secrets = write_secrets(Path(folder), pip_settings(), os.environ)
        for image in options.images or IMAGES:
            command = build_command(builder, image, options, labels, secrets)
            print(shlex.join(command), flush=True)
            if not options.dry_run:
                result = subprocess.run(command, cwd=ROOT, check=False)
                if result.returncode != 0:
                    sys.exit(f"{builder} could not build the {image} image (exit code {result.returncode}, see above)")


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The command line; complains in words about what does not go together."""
    summary, _, details = (__doc__ or "").partition("\n\n")
    parser = argparse.ArgumentParser(
        description=summary, epilog=details, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    own, builder_arguments = split(arguments)
    parser.add_argument("images", nargs="*", metavar="IMAGE", help="trainer or operator; both if none is named")
    parser.add_argument("--builder", choices=BUILDERS, help="default: the first of these that works")
    parser.add_argument("--base", help="base image; default: a Python one, see the Containerfiles")
    parser.add_argument("--torch-index", metavar="URL", help="package index that torch alone is taken from")
    parser.add_argument("--repository", default="ghcr.io/gpt-run", help="where IMAGE:TAG belongs; default: %(default)s")
    parser.add_argument("--tag", default=version(), help="default: the project's version, %(default)s")
    parser.add_argument("--platform", help="such as linux/arm64; default: this machine's")
    parser.add_argument("--source", default="", help="URL of the source code, for the label")
    parser.add_argument("--push", action="store_true", help="push with SBOM and provenance; docker's buildx only")
    parser.add_argument("--cache", metavar="NAME", help="an image's layers are kept there; docker's buildx only")
    parser.add_argument("--dry-run", action="store_true", help="print the commands, run nothing")
    options = parser.parse_args(own)
    options.builder_arguments = builder_arguments
    for image in options.images:
        if image not in IMAGES:
            parser.error(f"unknown image {image!r}: there are {' and '.join(IMAGES)}")
    if options.platform and "," in options.platform:
        parser.error("--platform takes one platform: build each, then join the tags with `docker buildx imagetools`")
    if options.push or options.cache:
        if options.builder not in (None, "docker"):
            parser.error(f"--push and --cache need docker's buildx, not {options.builder}, which has a push of its own")
        options.builder = "docker"
    if options.cache and len(options.images) != 1:
        parser.error("--cache belongs to one image: name the image to build")
    return options


def split(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Arguments of this script, and what stands behind `--` for the builder."""
    if "--" not in arguments:
        return list(arguments), []
    position = arguments.index("--")
    return list(arguments[:position]), list(arguments[position + 1 :])


def version() -> str:
    """The project's version, read without importing the project."""
    text = (ROOT / "trainer" / "version.py").read_text(encoding="utf-8")
    found = re.search(r'^VERSION = "(.+)"$', text, re.MULTILINE)
    assert found is not None, "trainer/version.py has no VERSION"
    return found[1]


def find_builder() -> str:
    """The first builder that is installed and answers; otherwise what was found of each."""
    complaints = []
    for name in BUILDERS:
        if shutil.which(name) is None:
            complaints.append(f"{name} is not on PATH")
            continue
        probe = subprocess.run([name, "info"], capture_output=True, text=True, check=False)
        if probe.returncode == 0:
            return name
        reason = (probe.stderr.strip() or probe.stdout.strip() or "no reason given").splitlines()[-1]
        complaints.append(f"`{name} info` fails: {reason}")
    sys.exit(
        f"no image can be built here: {'; '.join(complaints)}. "
        "Install buildah or podman (Debian has packages of these names), or start docker's daemon."
    )


def build_labels(source: str) -> dict[str, str]:
    """Build arguments that become labels. Equal commits give equal labels: the time is that of the commit."""
    revision = git("rev-parse", "HEAD")
    if revision and git("status", "--porcelain"):
        revision += "-dirty"
    return {
        "VERSION": version(),
        "REVISION": revision,
        "CREATED": git("log", "-1", "--format=%cI"),
        "SOURCE": source,
    }


def git(*arguments: str) -> str:
    """Output of git; empty outside a repository, as in an unpacked source archive."""
    if shutil.which("git") is None:
        return ""
    result = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    return result.stdout.strip() if result.returncode == 0 else ""


def pip_settings() -> dict[str, str]:
    """Settings of this machine's pip by name, configuration files and environment; none where there is no pip."""
    for pip in ([sys.executable, "-m", "pip"], ["pip3"], ["pip"]):
        if shutil.which(pip[0]) is not None:
            command = [*pip, "--disable-pip-version-check", "config", "list"]
            listed = subprocess.run(command, capture_output=True, text=True, check=False)
            if listed.returncode == 0:
                return parse_pip_settings(listed.stdout)
    return {}


def parse_pip_settings(listing: str) -> dict[str, str]:
    """`pip config list` as a dictionary: `install` goes before `global`, the environment before both."""
    sections: dict[str, dict[str, str]] = {"global": {}, "install": {}, ":env:": {}}
    for line in listing.splitlines():
        name, _, value = line.partition("=")
        section, _, key = name.rpartition(".")
        if section in sections:
            sections[section][key.replace("default-timeout", "timeout")] = ast.literal_eval(value)
    return sections["global"] | sections["install"] | sections[":env:"]


def write_secrets(folder: Path, settings: Mapping[str, str], environment: Mapping[str, str]) -> dict[str, Path]:
    """Files for the build's secrets by id: what pip needs to reach the package index from inside."""
    secrets = {}
    kept = {key: value for key, value in settings.items() if key in PIP_SETTINGS and not value.startswith("/")}
    if kept:
        config = configparser.RawConfigParser()
        config["global"] = kept
        secrets["pip-config"] = folder / "pip.conf"
        with secrets["pip-config"].open("w", encoding="utf-8") as file:
            config.write(file)
    certificates = [settings.get("cert"), *(environment.get(name) for name in CERTIFICATE_VARIABLES)]
    bundle = next((Path(path) for path in certificates if path), None)
    if bundle is not None and bundle.is_file():
        secrets["ca-certificates"] = bundle
    return secrets


def build_command(
    builder: str, image: str, options: argparse.Namespace, labels: Mapping[str, str], secrets: Mapping[str, Path]
) -> list[str]:
    """What the builder is called with, in the repository's root."""
    command = [builder, *(["buildx", "build"] if builder == "docker" else ["build", "--layers", "--format", "oci"])]
    command += ["--file", f"images/{image}/Containerfile", "--tag", f"{options.repository}/{image}:{options.tag}"]
    if options.base:
        command += ["--build-arg", f"BASE={options.base}"]
    if options.torch_index and image == "trainer":
        command += ["--build-arg", f"TORCH_INDEX={options.torch_index}"]
    for name, value in labels.items():
        command += ["--build-arg", f"{name}={value}"]
    for name, path in secrets.items():
        command += ["--secret", f"id={name},src={path}"]
    if options.platform:
        command += ["--platform", options.platform]
    if builder == "docker":
        command += ["--push", "--sbom=true", "--provenance=mode=max"] if options.push else ["--load"]
    if options.cache:
        reference = f"type=registry,ref={options.cache}"
        command += ["--cache-from", reference, "--cache-to", f"{reference},mode=max"]
    return [*command, *options.builder_arguments, "."]


if __name__ == "__main__":
    main()
