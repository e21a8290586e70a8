"""The API server, over aiohttp: the few requests that the operator makes beside its watches.

`apply`, `events`, `lease` and `watches` use it. Answers that mean different things to them are different errors: what
was decided on is old (OldNews), a right is missing (Forbidden), nobody answers (Away); whatever else is refused is an
ApiError. See docs/decisions/operator-client.md for why it is no client library.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from types import TracebackType
from typing import Any

import aiohttp
import kopf
import yaml

from operators.backends.backend import MERGE_PATCH, Resource

FIELD_MANAGER = "gpt-run-operator"
_TIMEOUT = aiohttp.ClientTimeout(total=10, sock_connect=3)
_CHUNK = 500
# As authorizers say it: `User "x" cannot patch resource "pytorchjobs" in API group "kubeflow.org"`.
_NO_RIGHT = re.compile(r"\bcannot \w+ (resource|path)\b")
_PARTIAL_LIST = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"


class ApiError(Exception):
    """The API server refused; what it said."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class OldNews(ApiError):
    """404 or 409: the object has gone or changed since it was looked at."""


class Forbidden(ApiError):
    """The operator's service account lacks a right; the message names verb and resource."""


class Away(Exception):
    """No answer, or none that means anything: try again later."""


class LoginError(Exception):
    """There is no cluster to talk to."""


def login(**_: Any) -> kopf.ConnectionInfo:
    """Of the pod's service account, else of KUBECONFIG. Tokens change: read again at each call."""
    settings = kopf.OperatorSettings()
    try:
        found = kopf.login_with_service_account(settings=settings) or kopf.login_with_kubeconfig(settings=settings)
    except (OSError, KeyError, yaml.YAMLError, kopf.LoginError) as error:
        raise LoginError(f"the kubeconfig cannot be used ({error!r}); name one in KUBECONFIG") from error
    if found is None:
        raise LoginError("neither a pod's service account nor a kubeconfig is here; name one in KUBECONFIG")
    assert isinstance(found, kopf.ConnectionInfo)
    return found


class Api:
    """Requests to one API server."""

    def __init__(self) -> None:
        self._session: aiohttp.ClientSession | None = None
        self._server = ""

    async def __aenter__(self) -> Api:
        await self._connect()
        return self

    async def __aexit__(
        self, _type: type[BaseException] | None, _value: BaseException | None, _trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()

    async def get(self, path: str, *, timeout_seconds: float | None = None, **params: str) -> Any:
        """One object, or a list."""
        return await self._request("GET", path, params=params, timeout_seconds=timeout_seconds)

    async def post(self, path: str, body: Any, *, timeout_seconds: float | None = None) -> Any:
        """Make an object."""
        params = {"fieldManager": FIELD_MANAGER}
        return await self._request("POST", path, body=body, params=params, timeout_seconds=timeout_seconds)

    async def patch(
        self, path: str, body: Any, content_type: str = MERGE_PATCH, *, timeout_seconds: float | None = None
    ) -> Any:
        """Change an object; what it is then."""
        return await self._request(
            "PATCH",
            path,
            body=body,
            params={"fieldManager": FIELD_MANAGER},
            headers={"Content-Type": content_type},
            timeout_seconds=timeout_seconds,
        )

    async def delete(self, path: str, options: Mapping[str, Any]) -> Any:
        """Delete an object."""
        return await self._request("DELETE", path, body={"apiVersion": "v1", "kind": "DeleteOptions", **options})

    async def served(self, resource: Resource) -> bool:
        """Whether the cluster says that it knows this kind; where kopf looks, too."""
        try:
            found = await self.get(resource.base)
        except OldNews:
            return False
        return any(one["name"] == resource.plural for one in found["resources"])

    async def identities(self, resource: Resource, namespace: str) -> dict[str, str]:
        """UID -> name of all objects of a kind: their metadata alone, piece by piece."""
        found: dict[str, str] = {}
        token = ""
        while True:
            params = {"limit": str(_CHUNK)} | ({"continue": token} if token else {})
            page = await self._request(
                "GET", resource.path(namespace), params=params, headers={"Accept": _PARTIAL_LIST}
            )
            found |= {item["metadata"]["uid"]: item["metadata"]["name"] for item in page["items"] or ()}
            token = page["metadata"].get("continue") or ""
            if not token:
                return found

    async def _connect(self) -> aiohttp.ClientSession:
        old, info = self._session, await asyncio.to_thread(login)
        self._server = info.server.rstrip("/")
        connector = aiohttp.TCPConnector(limit=32, ssl=info.as_ssl_context())
        self._session = aiohttp.ClientSession(connector=connector, headers=info.as_http_headers(), timeout=_TIMEOUT)
        if old is not None:
            await old.close()
        return self._session

    async def _request(
        self,
        method: str,
        path: str,
        *,
        body: Any = None,
        params: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        timeout_seconds: float | None = None,
    ) -> Any:
        timeout = _TIMEOUT if timeout_seconds is None else aiohttp.ClientTimeout(total=timeout_seconds)
        for last in (False, True):
            session = self._session or await self._connect()
            try:
                async with session.request(
                    method, self._server + path, json=body, params=params, headers=headers, timeout=timeout
                ) as answer:
                    if answer.status < 300:
                        return await answer.json()
                    text = await _message(answer)
            except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
                raise Away(f"{method} {path}: {str(error) or type(error).__name__}") from error
            except RuntimeError as error:  # the session was closed by another request that logged in again
                raise Away(f"{method} {path}: {error}") from error
            if answer.status == 401 and not last:  # the token is out of date
                await self._connect()
                continue
            raise _error(answer.status, f"{method} {path}: {text}")
        raise AssertionError("the second attempt returns or raises")


async def _message(answer: aiohttp.ClientResponse) -> str:
    try:
        return str((await answer.json())["message"])
    except (aiohttp.ClientError, ValueError, KeyError, TypeError):
        return f"{answer.status} {answer.reason}"


def _error(status: int, message: str) -> Exception:
    if status in (404, 409):
        return OldNews(status, message)
    # Quotas and webhooks refuse with a 403 as well, and no right would help there.
    if status == 403 and _NO_RIGHT.search(message):
        return Forbidden(status, message)
    if status == 429 or status >= 500:
        return Away(message)
    return ApiError(status, message)
