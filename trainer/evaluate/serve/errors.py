"""Refusals in the form of OpenAI's API: a status, and an object that says what was found and what would be right."""

from __future__ import annotations

from typing import Any

from trainer.errors import UserError


class ApiError(Exception):
    """A request that is not answered. `param` is the key that it is about, `code` what programs look at."""

    def __init__(self, status: int, message: str, *, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.status, self.message, self.param, self.code = status, message, param, code

    def body(self) -> dict[str, Any]:
        """The JSON of the answer."""
        kind = "server_error" if self.status >= 500 else "invalid_request_error"
        if self.status == 429:
            kind = "rate_limit_error"
        return {"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}}


def refusal(error: UserError, *, param: str | None = None, code: str | None = None) -> ApiError:
    """What is wrong with the request, in the words that a command has for it."""
    return ApiError(400, f"{error.found}; expected {error.expected}; {error.fix}", param=param, code=code)
