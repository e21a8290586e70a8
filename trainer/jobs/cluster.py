"""One namespace of a cluster, through the Kubernetes client: every call retries what heals and explains the rest.

Made by `connect` from the kubeconfig, or inside a pod from its service account. Needs the `kubernetes` extra, so only
functions that have to do with a cluster import this module (`trainer.jobs.extra` says so where it is missing).
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import stamina
from kubernetes import client, config
from kubernetes.client.exceptions import ApiException

from trainer.errors import UserError
from trainer.jobs.api_errors import explain, may_heal
from trainer.jobs.state import ContainerEnd, Pod, is_stuck

FIELD_MANAGER = "gpt-run"
# Connecting, and the longest silence within an answer.
TIMEOUTS = (5, 30)
_STATUS_TIMEOUTS = (2, 5)
_SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
_RETRY_SECONDS = 20.0
# A log that is followed is left after so long without a line, and after so long in all, to look where rank 0 is.
_LOG_SILENCE_SECONDS = 2
_LOG_SECONDS = 10.0
# Names the container that matters where a mesh has put its own first.
_DEFAULT_CONTAINER = "kubectl.kubernetes.io/default-container"


def connect(*, context: str | None, namespace: str | None, patience_seconds: float = _RETRY_SECONDS) -> Cluster:
    """The cluster of the kubeconfig's context, or the one this pod runs in. UserError if there is neither."""
    configuration = client.Configuration()
    # One place retries, and says so: `Cluster.call`.
    configuration.retries = False
    file = os.environ.get("KUBECONFIG") or str(Path.home() / ".kube" / "config")
    if (
        not any(Path(part).exists() for part in file.split(os.pathsep))
        and context is None
        and _SERVICE_ACCOUNT.exists()
    ):
        config.load_incluster_config(client_configuration=configuration)
        own = (_SERVICE_ACCOUNT / "namespace").read_text().strip()
        return Cluster(client.ApiClient(configuration), namespace or own, patience_seconds)
    try:
        contexts, active = config.list_kube_config_contexts(file)
        by_name = {str(one["name"]): one for one in contexts}
        if context is None or context in by_name:
            config.load_kube_config(config_file=file, context=context, client_configuration=configuration)
    except Exception as error:  # the client's own, yaml's, KeyError: whatever is wrong with the file
        raise UserError(
            f"kubeconfig {file}: {error}",
            expected="a kubeconfig with a current context",
            fix="set KUBECONFIG, log in to the cluster, or choose a context: kubectl config use-context NAME",
        ) from error
    chosen = active if context is None else by_name.get(context)
    if chosen is None:
        raise UserError(
            f"kubeconfig {file} has no context {context}",
            expected=f"one of {', '.join(sorted(by_name))}",
            fix="correct --context, or set KUBECONFIG",
        )
    return Cluster(
        client.ApiClient(configuration),
        namespace or (chosen.get("context") or {}).get("namespace") or "default",
        patience_seconds,
    )


class Cluster:
    """The API of one cluster, for one namespace."""

    def __init__(self, api: client.ApiClient, namespace: str, patience_seconds: float) -> None:
        self.api = api
        self.namespace = namespace
        self.server = str(api.configuration.host)
        self._core = client.CoreV1Api(api)
        self._patience_seconds = patience_seconds

    def call(self, doing: str, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Call `function` until it is through or will not be; UserError for what the user has to mend.

        `doing` begins the message, such as "scaling gpt2".
        """

        def once() -> Any:
            try:
                return function(*args, **kwargs)
            except RuntimeError as error:
                # kubeflow-training hides in it what the API said.
                raise error.__cause__ or error.__context__ or error from None

        try:
            return stamina.retry(on=may_heal, attempts=None, timeout=self._patience_seconds)(once)()
        except Exception as error:
            explained = explain(error, doing=doing, server=self.server)
            if explained is None:
                raise
            raise explained from error

    def find(self, doing: str, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Like `call`, but None for what is not there."""
        return self.call(doing, _none_if_missing, function, *args, **kwargs)

    def version(self) -> str:
        """Of the API server, such as v1.34.4."""
        found = self.call("asking for the version", client.VersionApi(self.api).get_code, _request_timeout=TIMEOUTS)
        return str(found.git_version)

    def pods(self, release: str) -> list[Pod]:
        """All pods of a release, in no order."""
        return self.pods_of(f"app.kubernetes.io/instance={release}")

    def pods_of(self, selector: str) -> list[Pod]:
        """All pods with these labels."""
        found = self.call(
            f"looking at pods with {selector}",
            self._core.list_namespaced_pod,
            self.namespace,
            label_selector=selector,
            _request_timeout=TIMEOUTS,
        )
        return [_pod(item) for item in found.items]

    def status(self, release: str) -> dict[str, Any] | None:
        """The coordinator's /status through the API server's service proxy; None while nobody answers there."""
        service = f"{release}-coordinator:http"
        try:
            found = self._core.connect_get_namespaced_service_proxy_with_path(
                service, self.namespace, "status", _preload_content=False, _request_timeout=_STATUS_TIMEOUTS
            )
            document = json.loads(found.data)
        except ApiException as error:
            if error.status in (401, 403):
                raise explain(error, doing=f"asking {service} for its status", server=self.server) or error from error
            return None
        except ValueError:
            return None
        except Exception as error:
            if may_heal(error):
                return None
            raise
        return document if isinstance(document, dict) else None

    def log(
        self, pod: Pod, *, since: datetime | None, tail: int | None = None, previous: bool = False, follow: bool = False
    ) -> Iterator[str] | None:
        """Lines of a pod's log with their times in front, from the second of `since` on; None while there is no log.

        previous: of the container before the last restart. follow: also what comes, until nothing has come for a
        moment: a stream from a node that was lost never ends.
        """
        query: list[tuple[str, str]] = [("container", pod.container), ("timestamps", "true")]
        query += [("sinceTime", since.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"))] if since is not None else []
        query += [("tailLines", str(tail))] if tail is not None else []
        query += [("previous", "true")] if previous else []
        query += [("follow", "true")] if follow else []
        try:
            # Not read_namespaced_pod_log, which knows no sinceTime.
            answer = self.api.call_api(
                "/api/v1/namespaces/{namespace}/pods/{name}/log",
                "GET",
                {"namespace": self.namespace, "name": pod.name},
                query,
                {"Accept": "*/*"},
                auth_settings=["BearerToken"],
                _preload_content=False,
                _return_http_data_only=True,
                _request_timeout=(TIMEOUTS[0], _LOG_SILENCE_SECONDS) if follow else TIMEOUTS,
            )
        except ApiException as error:
            if error.status in (401, 403):
                raise explain(error, doing=f"reading the log of {pod.name}", server=self.server) or error from error
            # No container yet or no more, or a kubelet that is away.
            return None
        except Exception as error:
            if may_heal(error):
                return None
            raise
        return _lines(answer, time.monotonic() + _LOG_SECONDS)


def _lines(answer: Any, until: float) -> Iterator[str]:
    """Whole lines of an answer as they come; a piece of one at a break is left for the next read."""
    rest = b""
    try:
        for chunk in answer.stream():
            *lines, rest = (rest + chunk).split(b"\n")
            yield from (line.decode(errors="replace") for line in lines)
            if time.monotonic() >= until:
                return
    except Exception as error:
        if not may_heal(error):
            raise
    finally:
        answer.close()


def _none_if_missing(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    try:
        return function(*args, **kwargs)
    except Exception as error:
        found = error.__cause__ if isinstance(error, RuntimeError) else error
        if isinstance(found, ApiException) and found.status == 404:
            return None
        raise


def _pod(item: Any) -> Pod:
    """What matters of a V1Pod."""
    meta, spec, status = item.metadata, item.spec, item.status
    labels = meta.labels or {}
    container = (meta.annotations or {}).get(_DEFAULT_CONTAINER) or spec.containers[0].name
    known = next((one for one in status.container_statuses or [] if one.name == container), None)
    index = labels.get("training.kubeflow.org/replica-index", "")
    # Its launcher goes by the pod's name; charts that do not set GPTRUN_POD leave it the host name.
    hosts = [meta.name, *([spec.hostname] if spec.hostname else [])]
    if spec.host_network and spec.node_name:
        hosts += [spec.node_name, spec.node_name.partition(".")[0]]
    return Pod(
        name=meta.name,
        uid=meta.uid,
        component=labels.get("app.kubernetes.io/component") or labels.get("gptrun.io/component") or "",
        container=container,
        created=meta.creation_timestamp,
        index=int(index) if index.isdecimal() else None,
        host_names=tuple(hosts),
        phase=status.phase or "Pending",
        leaving=meta.deletion_timestamp is not None,
        started=known is not None and (known.state.waiting is None or known.restart_count > 0),
        restarts=known.restart_count if known is not None else 0,
        stuck=_stuck(status, known),
        end=_end(known),
    )


def _stuck(status: Any, known: Any) -> tuple[str, str] | None:
    waiting = known.state.waiting if known is not None else None
    if waiting is not None and is_stuck(waiting.reason or ""):
        return waiting.reason, waiting.message or ""
    for condition in status.conditions or []:
        if condition.type == "PodScheduled" and condition.status == "False":
            return condition.reason or "Unschedulable", condition.message or ""
    return None


def _end(known: Any) -> ContainerEnd | None:
    if known is None:
        return None
    found = known.state.terminated or (known.last_state.terminated if known.last_state else None)
    if found is None:
        return None
    return ContainerEnd(found.exit_code, (found.message or found.reason or "").strip())
