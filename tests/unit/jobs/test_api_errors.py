"""What refusals of an API server mean to a user."""

from __future__ import annotations

import json

import pytest
from kubernetes.client.exceptions import ApiException
from urllib3.exceptions import MaxRetryError, NewConnectionError, ProtocolError, SSLError

from trainer.errors import UserError
from trainer.jobs.api_errors import explain, may_heal, words

OLD_KIND = "typed patch object (x; kubeflow.org/v1, Kind=PyTorchJob): .spec.a: field not declared in schema"


def refused(code: int, message: str, *, name: str | None = None, reason: str = "") -> ApiException:
    """As the client raises it for a Status object."""
    error = ApiException(status=code, reason=reason)
    status = {"kind": "Status", "code": code, "reason": reason, "message": message, "details": {"name": name}}
    error.body = json.dumps(status)
    return error


def explained(error: Exception) -> str:
    found = explain(error, doing="scaling gpt2", server="https://cluster")
    assert isinstance(found, UserError)
    return str(found)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (refused(401, "Unauthorized"), "log in to the cluster again"),
        (refused(403, 'pytorchjobs "x" is forbidden: User "u" cannot patch'), "ask the cluster's administrator"),
        (refused(404, 'pytorchjobs.kubeflow.org "x" not found', name="x"), "check the name"),
        (refused(404, 'namespaces "y" not found', name="y"), "kubectl create namespace"),
        (refused(409, "conflict with kubectl", name="x"), "kubectl scale"),
        (refused(422, "ValidatingAdmissionPolicy denied: suspend instead", name="x"), "suspend instead"),
        (refused(503, "the server is busy"), "try again"),
        (refused(500, OLD_KIND), "training operator >= 1.9"),
        (ApiException(status=404, reason="Not Found"), "CustomResourceDefinition"),
        (MaxRetryError(None, "/", NewConnectionError(None, "connection refused")), "does not answer"),
        (SSLError("certificate verify failed"), "fresh kubeconfig"),
    ],
)
def test_every_refusal_says_what_to_do(error: Exception, expected: str) -> None:
    text = explained(error)
    assert text.startswith("scaling gpt2: ")
    assert expected in text


def test_what_is_no_fault_of_the_users_stays_as_it_is() -> None:
    assert explain(KeyError("x"), doing="scaling", server="https://cluster") is None


@pytest.mark.parametrize(
    ("error", "heals"),
    [
        (refused(429, "slow down"), True),
        (refused(503, "busy"), True),
        (refused(500, OLD_KIND), False),
        (refused(403, "no"), False),
        (refused(404, "no"), False),
        (refused(409, "no"), False),
        (ProtocolError("connection broken"), True),
        (SSLError("certificate verify failed"), False),
        (TimeoutError(), True),
        (ValueError(), False),
    ],
)
def test_what_is_tried_again(error: Exception, heals: bool) -> None:
    assert may_heal(error) is heals


def test_words_leave_out_addresses_of_objects() -> None:
    error = NewConnectionError(object(), "Failed to establish a new connection: [Errno 111] Connection refused")
    assert words(error) == "Failed to establish a new connection: [Errno 111] Connection refused"
