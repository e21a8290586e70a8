"""Images for the nodes, without a registry: out of buildah's storage, into each node's containerd.

Layers go over one by one, as they are stored, and only those that a node lacks: the trainer's gigabytes of dependencies
are copied once, and a change of code moves one small layer. No archive is written. Every image is named by a hash of
what it is made of.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import re
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.cluster import layout
from tests.cluster.images import build_image
from tests.cluster.machines import Machine, run
from tests.cluster.node import ctr, socket
from tests.cluster.tools import say, tool

ROOT = Path(__file__).parents[2]
PROGRAM_CONTAINERFILE = Path(__file__).parent / "program.Containerfile"
# What the images are made of: what .dockerignore lets through, and how the base comes about.
_SHARED_SOURCES = (
    "images/requirements.py",
    "tests/cluster/images.py",
    "pyproject.toml",
    "constraints.txt",
    "README.md",
    "LICENSE",
    "trainer",
)
SOURCES = {
    "trainer": ("images/trainer", *_SHARED_SOURCES),
    "operator": ("images/operator", "operators", *_SHARED_SOURCES),
}


def project_image(name: str) -> str:
    """Reference of the trainer's or the operator's image for the sources as they are now."""
    digest = hashlib.sha256()
    paths = [ROOT / source for source in SOURCES[name]]
    files = [file for path in paths for file in ([path] if path.is_file() else sorted(path.rglob("*")))]
    for file in files:
        if file.is_file() and "__pycache__" not in file.parts:
            digest.update(f"{file.relative_to(ROOT)}\0".encode() + file.read_bytes())
    return f"{layout.PROJECT_REPOSITORY}/{name}:{digest.hexdigest()[:16]}"


def provide_project_image(nodes: Sequence[Machine], name: str) -> str:
    """See that all nodes have the trainer's or the operator's image; its reference."""
    reference = project_image(name)
    if missing(nodes, reference):
        say(f"building {reference}: minutes at first, seconds when only code has changed")
        build_image(name, reference.rpartition(":")[2])
        provide(nodes, reference)
        forget_older(reference)
    return reference


def forget_older(reference: str) -> None:
    """Take images of earlier sources out of buildah's storage: a trainer has six gigabytes of dependencies.

    Layers that this image shares with them stay, so that the next build finds them.
    """
    repository = reference.rpartition(":")[0]
    for image in run("buildah", "images", "--format", "{{.Name}}:{{.Tag}}").split():
        # Named by a hash of sources: not what somebody has built for another purpose.
        if image != reference and re.fullmatch(re.escape(repository) + ":[0-9a-f]{16}", image):
            run("buildah", "rmi", image)
    run("buildah", "rmi", "--prune")


def provide_program(nodes: Sequence[Machine], name: str) -> None:
    """See that all nodes have the image with this program, which is compiled first if need be."""
    reference = layout.program_image(name)
    if missing(nodes, reference):
        command = ["buildah", "build", "--isolation", "chroot", "--format", "oci", "--tag", reference]
        with tempfile.TemporaryDirectory() as context:
            shutil.copy(tool(name), Path(context) / "manager")
            run(*command, "--file", PROGRAM_CONTAINERFILE, context)
        provide(nodes, reference)
        run("buildah", "rmi", reference)


def missing(nodes: Sequence[Machine], reference: str) -> list[Machine]:
    """Nodes that lack an image."""
    return [node for node in nodes if reference not in ctr(node, "images", "list", "--quiet").split()]


def provide(nodes: Sequence[Machine], reference: str) -> None:
    """Bring an image of buildah's to all nodes that lack it."""
    image = stored_image(reference)
    # One after the other: while a node takes an image, it needs room for it twice.
    for node in missing(nodes, reference):
        say(f"importing {reference} on {node.name}")
        _import(node, image)


@dataclass(frozen=True)
class Layer:
    """A layer: digest and size of its archive, which is not compressed; its name in buildah's storage."""

    digest: str
    size_bytes: int
    stored: str


@dataclass(frozen=True)
class StoredImage:
    """An image in buildah's storage; layers from the bottom up."""

    reference: str
    manifest: bytes
    config: bytes
    layers: tuple[Layer, ...]


def stored_image(reference: str) -> StoredImage:
    """Look an image up."""
    manifest = _storage("get-image-data", reference, "manifest")
    content = json.loads(manifest)
    stored = {layer.get("diff-digest"): layer["id"] for layer in json.loads(_storage("layers", "--json"))}
    layers = [Layer(one["digest"], one["size"], stored[one["digest"]]) for one in content["layers"]]
    config = _storage("get-image-data", reference, content["config"]["digest"])
    return StoredImage(reference, manifest.encode(), config.encode(), tuple(layers))


def chain_ids(layers: Sequence[str]) -> list[str]:
    """Names of the snapshots of layers, bottom first (OCI image specification, "Layer ChainID")."""
    chains: list[str] = []
    for layer in layers:
        chains.append(_digest(f"{chains[-1]} {layer}".encode()) if chains else layer)
    return chains


def _import(node: Machine, image: StoredImage) -> None:
    """Hand a node what it lacks of an image, then drop the archives of layers that it has unpacked.

    A layer whose files the node has needs no archive: Kubernetes' side of containerd does the same when it pulls
    (`discard_unpacked_layers`), and a later image that shares it is recognized by its files.
    """
    known = set(ctr(node, "snapshots", "list").split())
    chains = chain_ids([layer.digest for layer in image.layers])
    layers = [layer for layer, chain in zip(image.layers, chains, strict=True) if chain not in known]
    command = ["ctr", "--address", str(socket(node)), "--namespace", "k8s.io", "images", "import", "-"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as importer:
        assert importer.stdin is not None
        assert importer.stdout is not None
        # An importer that gives up says why on its output.
        with contextlib.suppress(BrokenPipeError), tarfile.open(fileobj=importer.stdin, mode="w|") as archive:
            _write_archive(archive, image, layers)
        with contextlib.suppress(BrokenPipeError):
            importer.stdin.close()
        output = importer.stdout.read().decode()
    if importer.returncode != 0:
        raise RuntimeError(f"{node.name} did not take {image.reference}: {output.strip()[-1000:]}")
    for digest in {layer.digest for layer in layers}:
        ctr(node, "content", "delete", digest)
    repository = image.reference.rpartition(":")[0]
    for old in ctr(node, "images", "list", "--quiet").split():
        if old.startswith(f"{repository}:") and old != image.reference:
            ctr(node, "images", "delete", old)


def _write_archive(archive: tarfile.TarFile, image: StoredImage, layers: Sequence[Layer]) -> None:
    """Write an OCI image layout that has only these of the image's layers."""
    manifest = {
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "digest": _digest(image.manifest),
        "size": len(image.manifest),
        "annotations": {"org.opencontainers.image.ref.name": image.reference},
    }
    _add(archive, "oci-layout", b'{"imageLayoutVersion": "1.0.0"}')
    _add(archive, "index.json", json.dumps({"schemaVersion": 2, "manifests": [manifest]}).encode())
    for content in (image.manifest, image.config):
        _add(archive, _blob(_digest(content)), content)
    for layer in layers:
        entry = tarfile.TarInfo(_blob(layer.digest))
        entry.size = layer.size_bytes
        command = ["containers-storage", "diff", "--uncompressed", layer.stored]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as reader:
            archive.addfile(entry, reader.stdout)


def _add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = len(content)
    archive.addfile(entry, io.BytesIO(content))


def _digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def _blob(digest: str) -> str:
    return f"blobs/{digest.replace(':', '/')}"


def _storage(*arguments: str) -> str:
    """Ask containers-storage, which reads what buildah has stored."""
    return run("containers-storage", *arguments)
