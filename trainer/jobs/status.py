"""`gpt-run status`: the /status document of a coordinator, by its URL or through the API server."""

from __future__ import annotations

import json
from http.client import HTTPException
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import urlopen

from trainer.errors import UserError
from trainer.jobs.state import Phase

# Where a launcher or a coordinator on this machine serves it.
LOCAL = "http://127.0.0.1:29480"
_SECONDS = 10.0


def is_url(target: str) -> bool:
    """Whether this is a URL or HOST:PORT, and no name of a release."""
    return "://" in target or ":" in target or "/" in target


def read_url(target: str) -> dict[str, Any]:
    """The document at a coordinator's URL, with or without `/status`. UserError if there is none."""
    url = target if "://" in target else f"http://{target}"
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise UserError(
            f"{target}: no URL of a coordinator",
            expected="http://HOST:29480, or the name of a release",
            fix="correct the URL",
        )
    url = f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/').removesuffix('/status')}/status"
    try:
        with urlopen(url, timeout=_SECONDS) as answer:  # noqa: S310  # the scheme was looked at
            document = json.load(answer)
    except HTTPError as error:
        raise _no_status(url, f"{error.code} {error.reason}") from error
    except URLError as error:
        raise _no_status(url, str(getattr(error.reason, "strerror", None) or error.reason)) from error
    except (OSError, HTTPException) as error:
        raise _no_status(url, str(error) or type(error).__name__) from error
    except ValueError as error:
        raise _no_status(url, "no JSON there") from error
    if not isinstance(document, dict) or "phase" not in document:
        raise _no_status(url, "no status document there")
    return document


def unanswered(name: str, phase: Phase, why: str = "") -> list[str]:
    """What to say of a release whose coordinator the API server cannot reach, line by line; why: what else is amiss."""
    lines = [f"{name} is {phase}, and its coordinator does not answer" + (f" ({why})" if why else "")]
    if phase is Phase.RUNNING:
        lines.append(
            "If it stays so, the run's NetworkPolicy may keep the API server out (network.policy.from). Past it: "
            f"kubectl port-forward service/{name}-coordinator 29480 & gpt-run status"
        )
    return lines


def _no_status(url: str, why: str) -> UserError:
    return UserError(
        f"{url}: {why}",
        expected="a coordinator, a Ray driver or a launcher that trains",
        fix="check host and port, or name a release (gpt-run status RELEASE); of a folder: gpt-run report STORE/RUN",
    )
