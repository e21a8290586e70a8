"""Builds the project's images from their real Containerfiles with buildah, also where no container registry is reached.

The base image is pulled; where that fails, one of the same name is made from Debian packages by debootstrap, from the
mirror that this machine's apt uses. Called by the bring-up of the test cluster; needs root, buildah and debootstrap.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
BASE = "docker.io/library/python:3.12-slim-bookworm"
SUITE = "bookworm"
# Everything that the Containerfiles would install, so that the builds themselves ask no Debian mirror.
BASE_PACKAGES = ("bash", "ca-certificates", "g++", "python3", "python3-dev", "python3-venv")
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class ImageMissing(Exception):
    """An image cannot be had on this machine; the message says why."""


def build_image(image: str, tag: str) -> str:
    """Build `trainer` or `operator` and return its name. With a warm cache a change of code takes seconds."""
    ensure_base()
    command = [sys.executable, str(ROOT / "images" / "build.py"), image, "--builder", "buildah", "--tag", tag]
    run([*command, "--repository", "ghcr.io/gpt-run", "--", "--isolation", "chroot"], f"the {image} image")
    return f"ghcr.io/gpt-run/{image}:{tag}"


def ensure_base() -> str:
    """See to it that buildah's storage has the base image, and return its name."""
    for program in ("buildah", "debootstrap"):
        if shutil.which(program) is None:
            raise ImageMissing(f"{program} is not on PATH: install the Debian packages buildah and debootstrap")
    if os.geteuid() != 0:
        raise ImageMissing("images for the test cluster are built by root, and this is not root")
    here = subprocess.run(["buildah", "inspect", "--type", "image", BASE], capture_output=True, check=False)
    if here.returncode != 0:
        pulled = subprocess.run(["buildah", "pull", "--quiet", BASE], capture_output=True, check=False)
        if pulled.returncode != 0:
            make_base()
    return BASE


def make_base() -> None:
    """Bootstrap Debian into a folder and commit it under the base image's name."""
    with tempfile.TemporaryDirectory(prefix="gpt-run-base-") as folder:
        root = Path(folder) / "root"
        include = f"--include={','.join(BASE_PACKAGES)}"
        run(["debootstrap", "--variant=minbase", include, SUITE, str(root), debian_mirror()], BASE)
        # Device nodes come from whatever runs the image; package lists and archives are not used again.
        for unused in ("dev", "var/lib/apt/lists", "var/cache/apt/archives"):
            shutil.rmtree(root / unused)
            (root / unused).mkdir()
        container = run(["buildah", "from", "scratch"], BASE)
        try:
            run(["buildah", "add", "--quiet", container, str(root), "/"], BASE)
            run(["buildah", "config", "--env", f"PATH={PATH}", "--cmd", "python3", container], BASE)
            run(["buildah", "commit", "--quiet", container, BASE], BASE)
        finally:
            run(["buildah", "rm", container], BASE)


def debian_mirror() -> str:
    """The mirror of apt on this machine."""
    form = ["--format", "$(REPO_URI)", "Created-By: Packages", f"Codename: {SUITE}"]
    listed = run(["apt-get", "indextargets", *form], "Debian's mirror").split()
    if not listed:
        raise ImageMissing(f"apt on this machine has no sources for {SUITE}, which the base image is made of")
    return listed[0]


def run(command: list[str], what: str) -> str:
    """Output of a command; its last line in the complaint when it fails."""
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        reason = (result.stderr.strip() or result.stdout.strip() or "no output").splitlines()[-1]
        raise ImageMissing(f"{what} cannot be built: `{' '.join(command[:2])}` says: {reason}")
    return result.stdout.strip()
