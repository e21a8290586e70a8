"""As much of an API server as the operator talks to, over HTTP in this process: lists, watches, conditional writes.

Stands in where a real one would be too slow to start or could not be told to fail at a given moment; what the operator
does on a real one is seen in tests/cluster/test_operator_api.py.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
from collections.abc import Callable, Coroutine, Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any, TypeVar

from aiohttp import web

Body = dict[str, Any]
T = TypeVar("T")
KINDS = {
    # kopf starts only where it finds namespaces and definitions.
    ("", "v1"): ("pods", "nodes", "events", "namespaces"),
    ("apiextensions.k8s.io", "v1"): ("customresourcedefinitions",),
    ("gptrun.io", "v1alpha1"): ("trainingruns",),
    ("kubeflow.org", "v1"): ("pytorchjobs",),
    ("ray.io", "v1"): ("rayjobs",),
    ("coordination.k8s.io", "v1"): ("leases",),
}
CLUSTER_WIDE = ("nodes", "namespaces", "customresourcedefinitions")


class ApiStub:
    """Its objects, and who watches them. Everything but `call` and `port` belongs to its own thread."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.port = 0
        self.objects: dict[str, dict[tuple[str, str], Body]] = {}
        self.watches: dict[str, set[asyncio.Queue[Body | None]]] = {}
        self.version = 1000
        self.seen: list[tuple[str, str]] = []
        """Method and path of every request but watches."""
        self.before: Callable[[web.Request], web.Response | None] = lambda _: None
        """Asked before each request: an answer of its own, or None."""
        self._runner: web.AppRunner | None = None

    # From other threads

    def call(self, work: Callable[[], T]) -> T:
        """Do something on its thread."""

        async def body() -> T:
            return work()

        return self.wait(body())

    def wait(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(60)

    # On its own

    async def start(self) -> None:
        """Listen, on the port of before if there was one."""
        app = web.Application(client_max_size=2**24)
        app.router.add_route("*", "/{path:.*}", self._answer)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port, reuse_address=True).start()
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        """Go away with all connections."""
        for queues in self.watches.values():
            for queue in queues:
                queue.put_nowait(None)
        assert self._runner is not None
        server = self._runner.server
        assert server is not None
        transports = [connection.transport for connection in server.connections]
        await self._runner.cleanup()
        await asyncio.sleep(0.05)  # connections are made by the loop's next turns, and sockets closed
        transports += [connection.transport for connection in server.connections]
        for transport in transports:
            if transport is not None:
                transport.abort()  # a client that hangs would never take what is still to be written
        await asyncio.sleep(0.05)

    def put(self, plural: str, body: Body) -> Body:
        """Make or change an object, and tell who watches."""
        meta = body["metadata"]
        key = (meta.get("namespace", ""), meta["name"])
        here = self.objects.setdefault(plural, {})
        self.version += 1
        meta["resourceVersion"] = str(self.version)
        meta.setdefault("uid", f"uid-{self.version}")
        meta.setdefault("generation", 1)
        meta.setdefault("creationTimestamp", "2026-11-22T11:06:57Z")
        self._tell(plural, "MODIFIED" if key in here else "ADDED", body)
        here[key] = body
        return body

    def change(self, plural: str, namespace: str, name: str, patch: Body) -> Body:
        """A merge patch, by whomever."""
        body = deepcopy(self.objects[plural][namespace, name])
        before = json.dumps(body.get("spec"))
        merge(body, patch)
        if json.dumps(body.get("spec")) != before:
            body["metadata"]["generation"] += 1
        return self.put(plural, body)

    def remove(self, plural: str, namespace: str, name: str) -> None:
        """An object goes."""
        self._tell(plural, "DELETED", self.objects[plural].pop((namespace, name)))

    def _tell(self, plural: str, event: str, body: Body) -> None:
        for queue in self.watches.get(plural, ()):
            queue.put_nowait({"type": event, "object": body})

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        own = self.before(request)
        if own is not None:
            return own
        parts = request.path.strip("/").split("/")
        if parts == ["version"]:
            return web.json_response({"major": "1", "minor": "34"})
        if request.path in ("/api", "/apis") or len(parts) == (2 if parts[0] == "api" else 3):
            return self._discovery(parts)
        rest = parts[2:] if parts[0] == "api" else parts[3:]
        namespace = ""
        if rest[0] == "namespaces":
            namespace, rest = rest[1], rest[2:]
        plural, name = rest[0], rest[1] if len(rest) > 1 else ""
        if request.query.get("watch"):
            return await self._watch(request, plural)
        self.seen.append((request.method, request.path))
        if not name:
            return self._list(request, plural) if request.method == "GET" else await self._create(request, plural)
        if (namespace, name) not in self.objects.get(plural, {}):
            return refusal(404, "NotFound")
        if request.method == "PATCH":
            return await self._patch(request, plural, namespace, name)
        if request.method == "DELETE":
            return await self._delete(request, plural, namespace, name)
        return web.json_response(self.objects[plural][namespace, name])

    def _discovery(self, parts: list[str]) -> web.Response:
        if parts == ["api"]:
            return web.json_response({"versions": ["v1"]})
        if parts == ["apis"]:
            groups = [
                {"name": group, "versions": [{"version": version}], "preferredVersion": {"version": version}}
                for group, version in KINDS
                if group
            ]
            return web.json_response({"groups": groups})
        group, version = ("", parts[1]) if parts[0] == "api" else (parts[1], parts[2])
        verbs = ["get", "list", "watch", "patch", "create", "delete"]
        resources = [
            {
                "name": plural,
                "singularName": plural[:-1],
                "kind": plural,
                "namespaced": plural not in CLUSTER_WIDE,
                "verbs": verbs,
            }
            for plural in KINDS.get((group, version), ())
        ]
        return web.json_response({"resources": resources}) if resources else refusal(404, "NotFound")

    def _list(self, request: web.Request, plural: str) -> web.Response:
        found = list(self.objects.get(plural, {}).values())
        items = (
            found if "PartialObject" not in request.headers["Accept"] else [{"metadata": o["metadata"]} for o in found]
        )
        return web.json_response({"metadata": {"resourceVersion": str(self.version)}, "items": items})

    async def _watch(self, request: web.Request, plural: str) -> web.StreamResponse:
        answer = web.StreamResponse(headers={"Content-Type": "application/json"})
        queue: asyncio.Queue[Body | None] = asyncio.Queue()
        since = int(request.query.get("resourceVersion", 0))
        for body in self.objects.get(plural, {}).values():
            if int(body["metadata"]["resourceVersion"]) > since:
                queue.put_nowait({"type": "MODIFIED", "object": body})
        self.watches.setdefault(plural, set()).add(queue)
        try:
            await answer.prepare(request)
            while (event := await queue.get()) is not None:
                await answer.write(json.dumps(event).encode() + b"\n")
        except (ConnectionError, asyncio.CancelledError):
            pass
        finally:
            self.watches[plural].discard(queue)
        return answer

    async def _create(self, request: web.Request, plural: str) -> web.Response:
        body = await request.json()
        parts = request.path.split("/")
        body["metadata"]["namespace"] = parts[parts.index("namespaces") + 1]
        if (body["metadata"]["namespace"], body["metadata"]["name"]) in self.objects.get(plural, {}):
            return refusal(409, "AlreadyExists")
        return web.json_response(self.put(plural, body), status=201)

    async def _patch(self, request: web.Request, plural: str, namespace: str, name: str) -> web.Response:
        patch = await request.json()
        if request.path.endswith("/scale"):
            patch = {"spec": {"pytorchReplicaSpecs": {"Worker": patch["spec"]}}}
        body = self.objects[plural][namespace, name]
        wanted = patch.get("metadata", {}).pop("resourceVersion", None)
        if wanted not in (None, body["metadata"]["resourceVersion"]):
            return refusal(409, "Conflict")
        return web.json_response(self.change(plural, namespace, name, patch))

    async def _delete(self, request: web.Request, plural: str, namespace: str, name: str) -> web.Response:
        found = self.objects[plural][namespace, name]["metadata"]
        wanted = (await request.json()).get("preconditions", {})
        if any(found[key] != value for key, value in wanted.items()):
            return refusal(409, "Conflict")
        self.remove(plural, namespace, name)
        return web.json_response({"kind": "Status", "status": "Success"})


def merge(target: Body, patch: Body) -> None:
    """RFC 7386."""
    for key, value in patch.items():
        if value is None:
            target.pop(key, None)
        elif isinstance(value, dict):
            if not isinstance(target.get(key), dict):
                target[key] = {}
            merge(target[key], value)
        else:
            target[key] = value


def refusal(status: int, reason: str) -> web.Response:
    """As the API server says no."""
    return web.json_response({"kind": "Status", "code": status, "reason": reason, "message": reason}, status=status)


@contextlib.contextmanager
def serving(folder: Path) -> Iterator[tuple[ApiStub, Path]]:
    """One that listens, and a kubeconfig that leads to it."""
    stub = ApiStub()
    thread = threading.Thread(target=stub.loop.run_forever, daemon=True)
    thread.start()
    stub.wait(stub.start())
    try:
        yield stub, kubeconfig(folder, stub.port)
    finally:
        with contextlib.suppress(Exception):
            stub.wait(stub.stop())
        stub.loop.call_soon_threadsafe(stub.loop.stop)
        thread.join(10)
        stub.loop.close()


def kubeconfig(folder: Path, port: int) -> Path:
    """A file that leads to a port of this machine."""
    file = folder / "kubeconfig"
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "here",
        "clusters": [{"name": "here", "cluster": {"server": f"http://127.0.0.1:{port}"}}],
        "users": [{"name": "me", "user": {"token": "t"}}],
        "contexts": [{"name": "here", "context": {"cluster": "here", "user": "me"}}],
    }
    file.write_text(json.dumps(content))
    return file
