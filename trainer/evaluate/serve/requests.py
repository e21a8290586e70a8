"""What a client may ask for: the bodies of OpenAI's completions and chat completions, as far as they are served.

What would change the text and is not served is refused unless it asks for nothing; what changes no text is ignored.
With `top_k` and `repetition_penalty` as vLLM has them. Defaults are OpenAI's.
"""

from __future__ import annotations

import secrets
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from trainer.complaints import complaints
from trainer.errors import UserError
from trainer.evaluate.sampling import Sampling
from trainer.evaluate.serve.errors import ApiError, refusal

# Prompts times `n`: they are computed together.
MAX_CHOICES = 16
# As OpenAI has it.
COMPLETION_TOKENS = 16

Request = TypeVar("Request", bound="TextRequest")
Tokens = Annotated[list[int], Field(min_length=1)]


class StreamOptions(BaseModel):
    """What a stream says beside the text."""

    model_config = ConfigDict(extra="forbid")

    include_usage: bool = False
    include_obfuscation: bool = False


class TextRequest(BaseModel):
    """What both kinds of request have."""

    model_config = ConfigDict(extra="forbid")

    model: str | None = None
    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    repetition_penalty: float | None = None
    stop: str | list[str] | None = None
    seed: int | None = None
    n: Annotated[int, Field(ge=1, le=MAX_CHOICES)] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    # Change no text.
    user: Any = None
    metadata: Any = None
    store: Any = None
    # Not served, so only where they ask for nothing.
    frequency_penalty: Literal[0] | None = None
    presence_penalty: Literal[0] | None = None
    logit_bias: Annotated[dict[str, float], Field(max_length=0)] | None = None

    @property
    def choices(self) -> int:
        """Texts for each prompt."""
        return self.n or 1

    def wanted_tokens(self) -> int | None:
        """Tokens to make at most; None for what the context leaves."""
        return self.max_tokens

    def sampling(self) -> Sampling:
        """How to draw; ApiError for values that have no meaning."""
        stop = (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())
        try:
            return Sampling(
                max_tokens=self.wanted_tokens(),
                temperature=1.0 if self.temperature is None else self.temperature,
                top_k=self.top_k or 0,
                top_p=1.0 if self.top_p is None else self.top_p,
                repetition_penalty=1.0 if self.repetition_penalty is None else self.repetition_penalty,
                stop=stop,
                # Below 2^53, so that every language's numbers hold it.
                seed=secrets.randbelow(2**53) if self.seed is None else self.seed,
            )
        except UserError as error:
            raise refusal(error, param=error.found.split(":")[0]) from error


class CompletionRequest(TextRequest):
    """`POST /v1/completions`."""

    prompt: str | Tokens | Annotated[list[str] | list[Tokens], Field(min_length=1, max_length=MAX_CHOICES)] = ""
    best_of: Literal[1] | None = None
    echo: Literal[False] | None = None
    logprobs: None = None
    suffix: Literal[""] | None = None

    def wanted_tokens(self) -> int | None:
        return COMPLETION_TOKENS if self.max_tokens is None else self.max_tokens

    def prompts(self) -> list[str] | list[list[int]]:
        """One or several, as text or as token ids."""
        if isinstance(self.prompt, str):
            return [self.prompt]
        if isinstance(self.prompt[0], int):
            return [self.prompt]
        return self.prompt


class ChatRequest(TextRequest):
    """`POST /v1/chat/completions`; the template says what messages may be like."""

    messages: Annotated[list[dict[str, Any]], Field(min_length=1)]
    max_completion_tokens: int | None = None
    logprobs: Literal[False] | None = None
    top_logprobs: Literal[0] | None = None
    tools: Annotated[list[Any], Field(max_length=0)] | None = None
    tool_choice: Literal["none"] | None = None
    response_format: dict[Literal["type"], Literal["text"]] | None = None

    def wanted_tokens(self) -> int | None:
        return self.max_tokens if self.max_completion_tokens is None else self.max_completion_tokens


def read_request(kind: type[Request], body: Any) -> Request:
    """The request in a JSON body; ApiError that names the keys that are wrong."""
    if not isinstance(body, dict):
        raise ApiError(400, f"the body is a {type(body).__name__}; expected a JSON object")
    try:
        return kind.model_validate(body)
    except ValidationError as error:
        first = str(error.errors()[0]["loc"][0]) if error.errors()[0]["loc"] else None
        raise ApiError(400, "; ".join(complaints(error, body, kind)), param=first) from error
