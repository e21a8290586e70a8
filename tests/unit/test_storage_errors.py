"""Errors of storage clients are read by their meaning, and no secret gets into a message."""

from __future__ import annotations

import errno
import pickle

import pytest
from botocore.exceptions import ClientError, CredentialRetrievalError, NoCredentialsError
from gcsfs.retry import validate_response

from trainer.__main__ import main
from trainer.errors import EXIT_FAILED, UserError
from trainer.storage_errors import (
    Meaning,
    StoreUnavailable,
    clean_url,
    may_heal,
    meaning_of,
    one_line,
    patience,
    without_secrets,
)


class HttpError(Exception):
    """Like the clients': the status hangs on the exception."""

    def __init__(self, status: int) -> None:
        super().__init__(f"HTTP {status}")
        self.status_code = status


@pytest.mark.parametrize(
    ("error", "meaning"),
    [
        (FileNotFoundError("x"), Meaning.MISSING),
        (FileExistsError("x"), Meaning.EXISTS),
        (PermissionError("x"), Meaning.REFUSED),
        (ConnectionResetError("x"), Meaning.PASSING),
        (TimeoutError("x"), Meaning.PASSING),
        (OSError(errno.ENOSPC, "No space left on device"), Meaning.LASTING),
        (OSError(errno.EFBIG, "File too large"), Meaning.LASTING),
        (OSError(errno.EIO, "at least one precondition"), Meaning.PASSING),
        (HttpError(404), Meaning.MISSING),
        (HttpError(403), Meaning.REFUSED),
        (HttpError(412), Meaning.EXISTS),
        (HttpError(409), Meaning.EXISTS),
        (HttpError(429), Meaning.PASSING),
        (HttpError(503), Meaning.PASSING),
        (HttpError(400), Meaning.LASTING),
        (
            ClientError(
                {"Error": {"Code": "RequestTimeout"}, "ResponseMetadata": {"HTTPStatusCode": 400}}, "PutObject"
            ),
            Meaning.PASSING,
        ),
        (
            ClientError({"Error": {"Code": "InvalidPart"}, "ResponseMetadata": {"HTTPStatusCode": 400}}, "PutObject"),
            Meaning.LASTING,
        ),
        (ValueError("x"), Meaning.LASTING),
    ],
)
def test_meanings(error: Exception, meaning: Meaning) -> None:
    assert meaning_of(error) is meaning
    assert may_heal(error) == (meaning is Meaning.PASSING)


def denied(code: str) -> ClientError:
    return ClientError({"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": 403}}, "GetObject")


@pytest.mark.parametrize(
    ("error", "heals"),
    [
        (denied("AccessDenied"), True),
        (denied("ExpiredToken"), True),
        (CredentialRetrievalError(provider="web-identity", error_msg="503"), True),
        (HttpError(403), True),
        (HttpError(503), True),
        (denied("InvalidAccessKeyId"), False),
        (NoCredentialsError(), False),
        (HttpError(400), False),
        (UserError("x", expected="y", fix="z"), False),
    ],
)
def test_a_remote_store_may_refuse_for_a_while(error: Exception, heals: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    assert patience(remote=True)(error) is heals
    assert patience(remote=False)(error) is may_heal(error)
    monkeypatch.setattr("trainer.storage_errors.REFUSED_SECONDS", -1.0)
    assert patience(remote=True)(error) is may_heal(error)


def test_a_store_that_is_away_is_told_from_a_damaged_file_and_crosses_processes() -> None:
    error = StoreUnavailable("s3://b/o: it is away")
    assert error.errno is not None
    assert str(error) == str(pickle.loads(pickle.dumps(error))) == "s3://b/o: it is away"
    assert may_heal(error)


def test_gcs_refusals_are_told_from_a_network_that_fails() -> None:
    with pytest.raises(OSError, match="Forbidden") as refused:
        validate_response(403, b'{"error": {"message": "no storage.objects.create access"}}', "b/bucket/o")
    assert meaning_of(refused.value) is Meaning.REFUSED


def test_the_cause_says_more_than_its_wrapper() -> None:
    wrapper = OSError(errno.EIO, "at least one of the pre-conditions did not hold")
    wrapper.__cause__ = HttpError(412)
    assert meaning_of(wrapper) is Meaning.EXISTS


@pytest.mark.parametrize(
    ("url", "clean"),
    [
        ("s3://key:secret@bucket/runs", "s3://bucket/runs"),  # pragma: allowlist secret
        ("abfs://container@account.dfs.core.windows.net/runs", "abfs://container@account.dfs.core.windows.net/runs"),
        ("https://host/runs?sig=abc#x", "https://host/runs"),
        ("https://token@host/runs", "https://host/runs"),
        ("simplecache::https://u:p4ss@host/x?sig=abc", "simplecache::https://host/x"),  # pragma: allowlist secret
        ("zip://a.txt::s3://key:secret@bucket/x.zip", "zip://a.txt::s3://bucket/x.zip"),  # pragma: allowlist secret
        ("./runs", "./runs"),
    ],
)
def test_urls_are_shown_without_secrets(url: str, clean: str) -> None:
    assert clean_url(url) == clean


def test_the_command_line_shows_no_secret_of_an_address_that_it_was_given(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    url = "file:///nowhere/set?X-Amz-Credential=hidden&X-Amz-Signature=hidden&sig=hidden"
    monkeypatch.setattr("sys.argv", ["gpt-run", "data", "inspect", url])
    with pytest.raises(SystemExit, match="2"):
        main()
    assert "hidden" not in capsys.readouterr().err


def test_a_command_whose_store_is_away_says_so_in_a_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def app() -> None:
        raise StoreUnavailable("s3://b/o: ConnectTimeoutError: nobody answers")

    monkeypatch.setattr("trainer.cli.main.app", app)
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == EXIT_FAILED
    assert capsys.readouterr().err == (
        "error: s3://b/o: ConnectTimeoutError: nobody answers\n"
        "  to do:    try again; see that the store runs and that this machine reaches it\n"
    )


def test_messages_are_shown_without_secrets() -> None:
    text = "GET https://u:p4ss@host/x?sv=1&sig=abc%2Fdef&se=2 failed; AccountKey=a/b+c==;x"  # pragma: allowlist secret
    assert without_secrets(text) == "GET https://host/x?sv=1&sig=***&se=2 failed; AccountKey=***;x"
    assert one_line(ValueError("a\n b")) == "ValueError: a b"
