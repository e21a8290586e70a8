"""A scarce thing of a known number on the nodes, in place of GPUs: an extended resource, as a device plugin adds it."""

from __future__ import annotations

import json

from tests.cluster.client import Namespace, Object

SLOT = "gptrun.test/slot"
_PLACES = [f"/status/{place}/{SLOT.replace('/', '~1')}" for place in ("capacity", "allocatable")]


def set_slots(namespace: Namespace, node: str, count: int) -> None:
    """Give a node so many."""
    _patch_node(namespace, node, [{"op": "add", "path": place, "value": str(count)} for place in _PLACES])


def remove_slots(namespace: Namespace, node: str) -> None:
    """Take the resource off the node again."""
    _patch_node(namespace, node, [{"op": "remove", "path": place} for place in _PLACES])


def _patch_node(namespace: Namespace, node: str, patch: list[Object]) -> None:
    namespace.kubectl("patch", "node", node, "--subresource=status", "--type=json", f"--patch={json.dumps(patch)}")
