"""What the API server's refusals mean to a user, and which of them pass by themselves.

`explain` turns what the clients raise into a UserError with the server's own message in it; `may_heal` is the predicate
for retries. Called by `trainer.jobs.cluster` for every call.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from http import HTTPStatus

from kubernetes.client.exceptions import ApiException
from kubernetes.dynamic.exceptions import ResourceNotFoundError
from urllib3.exceptions import HTTPError, SSLError

from trainer.errors import UserError

_HEALS = {
    HTTPStatus.TOO_MANY_REQUESTS,
    HTTPStatus.INTERNAL_SERVER_ERROR,
    HTTPStatus.BAD_GATEWAY,
    HTTPStatus.SERVICE_UNAVAILABLE,
    HTTPStatus.GATEWAY_TIMEOUT,
}
# What the server says of a field that its definition of a kind lacks; to server-side apply it says so with a 500.
_UNKNOWN_FIELD = "field not declared in schema"
INSTALL = {
    "kubeflow.org": "install training operator >= 1.9 (its CRDs and controller), or use backend: rayjob",
    "ray.io": "install KubeRay >= 1.6 (its CRDs and operator), or use backend: pytorchjob",
    "monitoring.coreos.com": "install the Prometheus operator, or set monitoring.serviceMonitor.enabled=false",
    "gptrun.io": "install charts/gpt-platform, or set policy.enabled=false",
}


@dataclass(frozen=True)
class Refusal:
    """An answer of the API server that is not the one hoped for."""

    code: int
    reason: str
    message: str
    is_object: bool
    """Of a 404: the object is missing; else the whole kind is."""


def may_heal(error: Exception) -> bool:
    """True for errors that a later try of the same call can get past (stamina's predicate)."""
    if isinstance(error, ApiException):
        return error.status in _HEALS and _UNKNOWN_FIELD not in words(error)
    return isinstance(error, HTTPError | TimeoutError) and not isinstance(error, SSLError)


def refusal_of(error: ApiException) -> Refusal:
    """What is in an ApiException; its body is a Status object, or plain text where the path itself is unknown."""
    body = error.body.decode(errors="replace") if isinstance(error.body, bytes) else str(error.body or "")
    try:
        status = json.loads(body)
    except ValueError:
        status = None
    if not isinstance(status, dict):
        return Refusal(int(error.status or 0), str(error.reason or ""), body.strip(), False)
    details = status.get("details") or {}
    reason, message = str(status.get("reason") or error.reason), str(status.get("message") or "")
    return Refusal(int(error.status or 0), reason, message, bool(details.get("name")))


def words(error: Exception) -> str:
    """An error in one line."""
    if isinstance(error, ApiException):
        found = refusal_of(error)
        return found.message or f"{found.code} {found.reason}"
    # The innermost of urllib3's says it; its text begins with the address of a Python object.
    inner = getattr(error, "reason", None) or error
    return re.sub(r"^<?[\w.]+(\(.*?\)| object at \w+>?):? ?", "", str(inner)) or type(error).__name__


def explain(error: Exception, *, doing: str, server: str) -> UserError | None:
    """The UserError for what a call met while `doing`; None for what is no fault of the user's."""
    if isinstance(error, ApiException):
        return _explain_refusal(refusal_of(error), doing, server)
    if isinstance(error, ResourceNotFoundError):
        return _missing_kind(str(error), doing)
    if isinstance(error, SSLError):
        return UserError(
            f"{doing}: {server} cannot be trusted: {words(error)}",
            expected="a server with a certificate of the kubeconfig's authority",
            fix="get a fresh kubeconfig for the cluster",
        )
    if may_heal(error):
        return UserError(
            f"{doing}: {server} does not answer: {words(error)}",
            expected="an API server that can be reached from here",
            fix="check the cluster, the network and the context (`kubectl cluster-info`)",
        )
    return None


def _missing_kind(text: str, doing: str) -> UserError:
    """For a kind of object that the cluster does not know; `text` names it."""
    found = f"{doing}: the cluster does not know this kind of object ({text})"
    fix = _install(text) or "install what serves it, or leave it out of the values"
    return UserError(found, expected="its CustomResourceDefinition", fix=fix)


def _outdated_kind(text: str, doing: str) -> UserError:
    """For a kind whose definition lacks a field that is given; `text` names both."""
    fix = _install(text) or "install a newer version of what serves the kind"
    return UserError(f"{doing}: {text}", expected="a CustomResourceDefinition that has the field", fix=fix)


def _install(text: str) -> str | None:
    """What serves the API group that is named in `text`."""
    return next((fix for group, fix in INSTALL.items() if group in text), None)


def _explain_refusal(found: Refusal, doing: str, server: str) -> UserError:
    said = f"{doing}: {found.message or f'{found.code} {found.reason}'}"
    if _UNKNOWN_FIELD in found.message:
        return _outdated_kind(found.message, doing)
    match found.code:
        case HTTPStatus.UNAUTHORIZED:
            return UserError(
                f"{doing}: {server} does not accept the credentials of the kubeconfig",
                expected="credentials that are valid now",
                fix="log in to the cluster again; `kubectl auth whoami` shows who you are",
            )
        case HTTPStatus.FORBIDDEN:
            return UserError(
                said,
                expected="the right to do this in the namespace",
                fix="ask the cluster's administrator for a Role with this verb, or use --namespace or --context",
            )
        case HTTPStatus.NOT_FOUND if not found.is_object:
            return _missing_kind(found.message, doing)
        case HTTPStatus.NOT_FOUND if "namespaces" in found.message:
            return UserError(said, expected="a namespace that is there", fix="create it: kubectl create namespace NAME")
        case HTTPStatus.NOT_FOUND:
            return UserError(said, expected="an object that is there", fix="check the name, --namespace and --context")
        case HTTPStatus.CONFLICT:
            return UserError(
                said,
                expected="fields that nobody else manages",
                fix="let the one who manages them change them, such as `helm upgrade` or `kubectl scale`",
            )
        case code if code in _HEALS:
            return UserError(said, expected="an API server that works", fix="try again; look at the cluster's health")
        case _:
            return UserError(
                said,
                expected="objects that the API server and its policies accept",
                fix="correct the value that the message names",
            )
