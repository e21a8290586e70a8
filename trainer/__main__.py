"""Entry point of `gpt-run` and of `python -m trainer`: runs a command and maps its error to an exit code."""

from __future__ import annotations

import errno
import os
import sys
from typing import NoReturn

from trainer.elastic.pod import explain_end
from trainer.errors import EXIT_FAILED, EXIT_USER_ERROR, UserError
from trainer.storage_errors import StoreUnavailable, without_secrets

# Errors of the operating system that tell of a path somebody gave: a file where a folder should be, no right to write.
_WRONG_PATH = frozenset({errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.EISDIR, errno.EROFS, errno.ENAMETOOLONG})


def main() -> None:
    """Run the command line; wrong input is explained without a traceback and exits with 2."""
    from trainer.cli.main import app

    try:
        app()
    except UserError as error:
        _explain(error)
    except StoreUnavailable as error:
        _end(
            f"error: {error}\n  to do:    try again; see that the store runs and that this machine reaches it",
            EXIT_FAILED,
        )
    except OSError as error:
        if error.errno not in _WRONG_PATH or error.filename is None:
            raise
        fix = "correct the path, or its owner and mode"
        _explain(UserError(f"{error.filename}: {error.strerror}", expected="a path that this user may use", fix=fix))


def _explain(error: UserError) -> NoReturn:
    _end(f"error: {error}", EXIT_USER_ERROR)


def _end(words: str, code: int) -> NoReturn:
    # What a command was given may be a URL with a signature, and a pod's last words are kept by the API server.
    words = without_secrets(words)
    print(words, file=sys.stderr)
    if os.getpid() == 1:
        explain_end(words)
    sys.exit(code)


if __name__ == "__main__":
    main()
