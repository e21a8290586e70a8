"""What an error of a storage client means: worth another try, the user's to mend, or neither.

s3fs, gcsfs and adlfs raise classes of their own SDKs, so the meaning is read from the HTTP status, the exception's
bases and its chain of causes instead of from imports. `trainer.checkpoint.store` and `trainer.data.remote` call it.
"""

from __future__ import annotations

import errno
import logging
import re
import time
from collections.abc import Callable, Iterator
from enum import Enum
from urllib.parse import urlsplit

from trainer.errors import UserError

_log = logging.getLogger(__name__)

# Scheme -> extra of our distribution that brings its client.
EXTRAS = {
    "s3": "s3",
    "s3a": "s3",
    "gs": "gcs",
    "gcs": "gcs",
    "abfs": "azure",
    "abfss": "azure",
    "az": "azure",
}


_CONTAINER_SCHEMES = ("abfs", "abfss", "az", "wasb", "wasbs")


# A token that is being renewed, a node's metadata service that is not up yet, a policy that is still spreading: all
# refuse for seconds, and a run is not to end for it.
REFUSED_SECONDS = 10.0


class Meaning(Enum):
    """What the caller does about an error."""

    EXISTS = "exists"  # a write-once file is already there
    MISSING = "missing"  # the file or the bucket is not there
    REFUSED = "refused"  # credentials are absent or lack the right
    PASSING = "passing"  # may heal by itself: try again
    LASTING = "lasting"  # neither time nor the user's settings heal it


class StoreUnavailable(OSError):
    """A store that failed for as long as it is given to heal. A later try of the whole may succeed.

    With a number, as the system's errors have one: those without are what parsers raise for damaged files.
    """

    def __init__(self, message: str) -> None:
        super().__init__(errno.EIO, message)

    def __str__(self) -> str:
        return str(self.strerror)

    def __reduce__(self) -> tuple[object, ...]:
        return StoreUnavailable, (self.strerror,)


# Substrings of class names that SDKs raise before any HTTP status exists.
_NO_CREDENTIALS = (
    *("NoCredentials", "PartialCredentials", "CredentialRetrieval", "TokenRetrieval", "SSOToken"),  # botocore
    *("DefaultCredentials", "RefreshError"),  # google-auth
    "ClientAuthentication",  # azure-core
)
_NETWORK = (
    "Connection",
    "Timeout",
    "Disconnected",
    "IncompleteRead",
    "ServiceRequest",
    "ServiceResponse",
    "HTTPClient",
)
# S3 says so with status 400, as if the request were wrong.
_PASSING_CODES = ("RequestTimeout",)
# Wrong keys, or none: no later try is told anything else. S3's words, and botocore's classes, which look for keys once.
_LASTING_REFUSALS = ("InvalidAccessKeyId", "SignatureDoesNotMatch", "NoCredentialsError", "PartialCredentialsError")
# Disk full, quota, file too large, read-only file system: no retry heals these.
_LASTING_ERRNO = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG}


def meaning_of(error: BaseException) -> Meaning:
    """Classify by the first link in the chain of causes that says anything definite."""
    return _meaning_of_one(_telling(error)) or Meaning.LASTING


def tell_retries() -> None:
    """From here on log what goes wrong with a request that is tried again: stamina's own line does not say."""
    from stamina.instrumentation import RetryDetails, set_on_retry_hooks

    def tell(details: RetryDetails) -> None:
        _log.warning("%s; trying again in %.1f s", one_line(_telling(details.caused_by)), details.wait_for)

    set_on_retry_hooks([tell])


def may_heal(error: Exception) -> bool:
    """True for errors that a later try of the same call can get past (stamina's predicate)."""
    return not isinstance(error, UserError) and meaning_of(error) is Meaning.PASSING


def patience(*, remote: bool) -> Callable[[Exception], bool]:
    """stamina's predicate for one call to a store: `may_heal`, and a remote one may refuse for REFUSED_SECONDS."""
    ends_at = time.monotonic() + REFUSED_SECONDS

    def may(error: Exception) -> bool:
        return may_heal(error) or (remote and time.monotonic() < ends_at and _may_be_let_in(error))

    return may


def clean_url(url: str) -> str:
    """The URL without what may be secret: user, password or token before the host, query (signatures) and fragment.

    Of a chain such as `simplecache::https://...` each link is cleaned.
    """
    return "::".join(_clean_link(link) for link in url.split("::")) if "://" in url else url


def _clean_link(url: str) -> str:
    if "://" not in url:
        return url
    parts = urlsplit(url)
    userinfo, at, host = parts.netloc.rpartition("@")
    # In abfs://container@account the part before @ is the container.
    if at and parts.scheme in _CONTAINER_SCHEMES and ":" not in userinfo:
        host = parts.netloc
    return f"{parts.scheme}://{host}{parts.path}"


def without_secrets(text: str) -> str:
    """A client's message with signed queries, keys and passwords in URLs blanked."""
    names = r"sig|signature|token|accountkey|secret[a-z_]*|password|x-(?:amz|goog)-[a-z-]+"
    text = re.sub(rf"(?i)\b({names})=[^&;\s'\"]+", r"\1=***", text)
    return re.sub(r"://[^/@\s:]*:[^/@\s]+@", "://", text)


def one_line(error: BaseException) -> str:
    """`Class: message` on one line, without secrets and of bounded length."""
    text = " ".join(without_secrets(str(error)).split())
    return f"{type(error).__name__}: {text[:400]}" if text else type(error).__name__


def _telling(error: BaseException) -> BaseException:
    """The first link of the chain that says anything definite; the error itself where none does."""
    return next((link for link in _chain(error) if _meaning_of_one(link) is not None), error)


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The original cause first: clients wrap an error that says more than the wrapper.

    A server that is not reached may have its file called missing, for example.
    """
    links = []
    link: BaseException | None = error
    while link is not None and link not in links:
        links.append(link)
        link = link.__cause__
    return reversed(links)


def _meaning_of_one(error: BaseException) -> Meaning | None:
    names = [base.__name__ for base in type(error).__mro__]
    if "PayloadEncodingError" in names:
        return Meaning.PASSING  # a body that broke off, to which aiohttp gives status 400, as if we were to blame
    if _s3_code(error) in _PASSING_CODES:
        return Meaning.PASSING
    status = _http_status(error)
    if status is not None:
        return _meaning_of_status(status)
    if isinstance(error, FileExistsError):
        return Meaning.EXISTS
    if isinstance(error, FileNotFoundError):
        return Meaning.MISSING
    if isinstance(error, PermissionError):
        return Meaning.REFUSED
    if any(part in name for name in names for part in _NO_CREDENTIALS):
        return Meaning.REFUSED
    if isinstance(error, (TimeoutError, ConnectionError)) or any(p in name for name in names for p in _NETWORK):
        return Meaning.PASSING
    if isinstance(error, OSError) and error.errno is None and str(error).startswith("Forbidden"):
        return Meaning.REFUSED  # gcsfs hangs no status on it
    if isinstance(error, OSError):
        return Meaning.LASTING if error.errno in _LASTING_ERRNO else Meaning.PASSING
    return None


def _meaning_of_status(status: int) -> Meaning:
    if status == 404:
        return Meaning.MISSING
    if status in (401, 403):
        return Meaning.REFUSED
    if status in (409, 412):
        return Meaning.EXISTS
    return Meaning.PASSING if status in (408, 425, 429) or status >= 500 else Meaning.LASTING


def _may_be_let_in(error: Exception) -> bool:
    if isinstance(error, UserError) or meaning_of(error) is not Meaning.REFUSED:
        return False
    return not any(
        word in _LASTING_REFUSALS for link in _chain(error) for word in (type(link).__name__, _s3_code(link))
    )


def _s3_code(error: BaseException) -> str | None:
    """The word by which S3 tells errors of one status apart."""
    response = getattr(error, "response", None)
    found = response.get("Error") if isinstance(response, dict) else None
    return found.get("Code") if isinstance(found, dict) else None


def _http_status(error: BaseException) -> int | None:
    """The status that botocore, gcsfs, azure-core and aiohttp hang on their errors, each in its own place."""
    response = getattr(error, "response", None)
    if isinstance(response, dict):
        found = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
        if isinstance(found, int):
            return found
    for name in ("status_code", "code", "status"):
        found = getattr(error, name, None)
        if isinstance(found, str) and found.isdecimal():
            found = int(found)
        if isinstance(found, int) and 400 <= found < 600:
            return found
    return None
