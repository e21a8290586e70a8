"""Exit codes and the few errors on which a caller acts differently.

Every command maps an error to one of four exit codes (README, "Commands"). An error class exists only where
somebody does something else because of it: `UserError` is printed without a traceback and never retried, `Fenced` ends
a worker that lost its run to a newer attempt.
"""

from __future__ import annotations

EXIT_FINISHED = 0
EXIT_FAILED = 1
EXIT_USER_ERROR = 2
EXIT_PREEMPTED = 75


class UserError(Exception):
    """The user's input is wrong: says what was found, what was expected and what to do. Exit code 2, never retried."""

    def __init__(self, found: str, *, expected: str, fix: str) -> None:
        super().__init__(found)
        self.found = found
        self.expected = expected
        self.fix = fix

    def __str__(self) -> str:
        return f"{self.found}\n  expected: {self.expected}\n  to do:    {self.fix}"

    def __reduce__(self) -> tuple[object, ...]:
        # Keyword-only arguments do not survive the default pickling, and errors cross process boundaries.
        return (_user_error, (self.found, self.expected, self.fix))


class Fenced(Exception):
    """A newer attempt owns the run: this one must stop writing at once."""


def as_error(message: str) -> str:
    """Why a run ends, as it is printed: what does not say so already is an error."""
    return message if message.startswith(("error: ", "Traceback ")) or not message else f"error: {message}"


def _user_error(found: str, expected: str, fix: str) -> UserError:
    return UserError(found, expected=expected, fix=fix)
