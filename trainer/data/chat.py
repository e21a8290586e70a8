"""Conversations and the chat templates that turn them into text and tokens; used by preparation, export and serving.

A template is Jinja as Hugging Face's tokenizers carry it, run in Jinja's sandbox: it comes with models from anywhere.
Rendering is what Transformers' `apply_chat_template` does, less the clock (`strftime_now` is not defined), so the same
conversation gives the same text on every day. Content loses white space at its ends: answers then begin where a token
can begin.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from jinja2 import TemplateError, nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment
from tokenizers import Tokenizer

from trainer.data.marks import CONTEXT, FIRST
from trainer.data.remote import Location, locate
from trainer.data.tokenizer import CONFIG_FILE, end_of_text_id, read_config, token_text
from trainer.durable import write_atomically
from trainer.errors import UserError
from trainer.storage_errors import clean_url

TEMPLATE_FILE = "chat_template.jinja"
ROLES = ("system", "user", "assistant")

SHIPPED = {
    # That of many models on the Hub; its markers are ordinary text for a tokenizer that does not have them as tokens.
    "chatml": (
        "{% for message in messages %}"
        "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}"
        "{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
    ),
    # For any tokenizer: all it needs is the end-of-text token.
    "plain": (
        "{% for message in messages %}"
        "{% if message['role'] == 'assistant' %}{{ 'Answer: ' + message['content'] + eos_token + '\\n' }}"
        "{% elif message['role'] == 'user' %}{{ 'Question: ' + message['content'] + '\\n' }}"
        "{% else %}{{ message['content'] + '\\n' }}{% endif %}"
        "{% endfor %}"
        "{% if add_generation_prompt %}{{ 'Answer:' }}{% endif %}"
    ),
}
"""The templates that come along, by name."""

Message = dict[str, str]

# What a template can raise that is wrong, or that refuses a conversation.
_TEMPLATE_ERRORS = (TemplateError, TypeError, ValueError, ArithmeticError, LookupError, AttributeError, RecursionError)


class Encoded(NamedTuple):
    """A conversation as tokens [n] and what each is for (`trainer.data.marks`)."""

    tokens: npt.NDArray[np.int64]
    marks: npt.NDArray[np.uint8]


def read_messages(line: Any) -> list[Message]:
    """The messages of one object of a data file: its `messages`, or its `prompt` and `completion`.

    Raises ValueError that says what was found and what is right.
    """
    if not isinstance(line, Mapping):
        raise ValueError(f"found {type(line).__name__}; expected an object with messages, or prompt and completion")
    if "messages" in line:
        messages = line["messages"]
    elif "prompt" in line and "completion" in line:
        messages = [{"role": "user", "content": line["prompt"]}, {"role": "assistant", "content": line["completion"]}]
    else:
        keys = ", ".join(map(str, line)) or "none"
        raise ValueError(f"found the keys {keys}; expected messages, or prompt and completion")
    if not isinstance(messages, list) or not messages:
        raise ValueError("messages: expected a list of at least one {role, content}")
    found = [_read_message(number, message) for number, message in enumerate(messages)]
    first = next((message["role"] for message in found if message["role"] != "system"), "user")
    if first != "user":
        raise ValueError(f"messages: the {first} speaks first; expected a user's message before any answer")
    return found


def _read_message(number: int, message: Any) -> Message:
    if not isinstance(message, Mapping) or not {"role", "content"} <= message.keys():
        raise ValueError(f"messages[{number}]: expected an object with role and content")
    role, content = message["role"], message["content"]
    if role not in ROLES:
        raise ValueError(f"messages[{number}].role: found {role!r}; expected one of {', '.join(ROLES)}")
    if not isinstance(content, str) or not content.strip():
        raise ValueError(f"messages[{number}].content: found {content!r}; expected text that is not empty")
    return {"role": role, "content": content.strip()}


@dataclass(frozen=True)
class ChatTemplate:
    """A chat template with the special tokens that it may write."""

    source: str
    """Jinja."""
    name: str
    """What messages call it."""
    bos_token: str
    eos_token: str

    def render(self, messages: Sequence[Message], *, add_generation_prompt: bool = False) -> str:
        """The text of a conversation, for the model to go on from with `add_generation_prompt`.

        Raises UserError where the template cannot be parsed, or refuses the conversation.
        """
        try:
            text: str = _compile(self.source).render(
                messages=[dict(message) for message in messages],
                tools=None,
                documents=None,
                add_generation_prompt=add_generation_prompt,
                bos_token=self.bos_token,
                eos_token=self.eos_token,
            )
            return text
        except _TEMPLATE_ERRORS as error:
            raise self._refusal(f"fails: {error}", messages, "a conversation that the template takes") from error

    def encode(self, tokenizer: Tokenizer, messages: Sequence[Message]) -> Encoded:
        """Tokens and marks; those of answers count, what ends them included. There may be no answer.

        Raises UserError for a template with which answers cannot be told from the rest, or that loses them.
        """
        text = self.render(messages)
        found = tokenizer.encode(text, add_special_tokens=False)
        marks = np.full(len(found.ids), CONTEXT, dtype=np.uint8)
        starts = np.array([start for start, _ in found.offsets], dtype=np.int64)
        for number, message in enumerate(messages):
            if message["role"] != "assistant":
                continue
            begin, end = self._answer(messages, number, text)
            before = tokenizer.encode(text[:begin], add_special_tokens=False).ids
            if not before or found.ids[: len(before)] != before:
                raise self._refusal(
                    "gives an answer whose first token reaches back into the text before it",
                    messages,
                    "a generation prompt that ends where a token ends, as with a newline or a special token",
                )
            behind = int(np.searchsorted(starts[len(before) :], end)) + len(before)
            marks[len(before) : behind] = 0
        if len(marks):
            marks[0] |= FIRST
        return Encoded(np.array(found.ids, dtype=np.int64), marks)

    def end_of_turn(self) -> str:
        """What the template writes behind an answer, without white space at its end."""
        messages = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
        text = self.render(messages)
        begin, end = self._answer(messages, 1, text)
        return text[begin:end].strip().removeprefix("b")

    def end_of_turn_id(self, tokenizer: Tokenizer) -> int | None:
        """The token that ends an answer, where it is a single one: whoever generates stops at it too."""
        ids = tokenizer.encode(self.end_of_turn(), add_special_tokens=False).ids
        return int(ids[0]) if len(ids) == 1 else None

    def _answer(self, messages: Sequence[Message], number: int, text: str) -> tuple[int, int]:
        """Where the answer `messages[number]` lies in the whole conversation's text, with what ends it."""
        before = self.render(messages[:number], add_generation_prompt=True)
        after = self.render(messages[: number + 1])
        content = messages[number]["content"]
        if content not in after:
            raise self._refusal("drops an answer", messages, "a template that writes the content of every answer")
        if not (after.startswith(before) and text.startswith(after)):
            raise self._refusal(
                "writes an answer otherwise than behind its own generation prompt, or otherwise once more is said",
                messages,
                "a conversation's text to begin with that of its first messages (as templates for training do)",
            )
        place = after.rfind(content, len(before))
        if place < 0:
            raise self._refusal("drops an answer", messages, "a template that writes the content of every answer")
        turn = after[place + len(content) :]
        ending = turn.rstrip() or turn
        if not ending:
            raise self._refusal(
                "writes nothing behind an answer, so a model would never learn to stop",
                messages,
                "an end of the turn behind the content, such as {{ eos_token }}",
            )
        return len(before), place + len(content) + len(ending)

    def _refusal(self, found: str, messages: Sequence[Message], expected: str) -> UserError:
        sample = json.dumps(messages, ensure_ascii=False)
        return UserError(
            f"chat template {self.name} {found}; the conversation: {sample[:300]}{'...' if len(sample) > 300 else ''}",
            expected=expected,
            fix=f"correct the template, or take one that comes along: {', '.join(SHIPPED)}",
        )


def load_template(source: str | None, tokenizer: Tokenizer, *, tokenizer_folder: str | None) -> ChatTemplate:
    """The template that `source` names: one that comes along, or a file; None takes that of the tokenizer's folder.

    Special tokens are those of the folder's tokenizer_config.json, else the end-of-text token for both. Raises
    UserError where there is no template.
    """
    config = read_config(locate(tokenizer_folder).join(CONFIG_FILE)) if tokenizer_folder is not None else {}
    eos = str(tokenizer.id_to_token(end_of_text_id(tokenizer)))
    text, name = _template_text(source, config, tokenizer_folder)
    template = ChatTemplate(
        text,
        name,
        bos_token=token_text(config.get("bos_token")) or eos,
        eos_token=token_text(config.get("eos_token")) or eos,
    )
    template.end_of_turn()
    return template


def write_template(folder: Path, template: ChatTemplate) -> None:
    """Write the template and its special tokens, as they lie beside a tokenizer.json."""
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False}
    tokens = {"bos_token": template.bos_token, "eos_token": template.eos_token}
    write_atomically(folder / TEMPLATE_FILE, template.source.encode())
    write_atomically(folder / CONFIG_FILE, json.dumps(config | tokens, indent=2).encode() + b"\n")


def _template_text(source: str | None, config: Mapping[str, Any], folder: str | None) -> tuple[str, str]:
    if source is not None and source in SHIPPED:
        return SHIPPED[source], source
    if source is not None:
        location = locate(source)
        if location.info() is None:
            raise UserError(
                f"chat template {source}: no such file",
                expected=f"a file of Jinja, or one of {', '.join(SHIPPED)}",
                fix="correct the name",
            )
        return _decoded(location), source
    if folder is not None:
        file = locate(folder).join(TEMPLATE_FILE)
        if file.info() is not None:
            return _decoded(file), file.url
        given = config.get("chat_template")
        if isinstance(given, str):
            return given, f"of {folder}/{CONFIG_FILE}"
    raise UserError(
        f"the tokenizer {folder or ''} has no chat template",
        expected=f"{TEMPLATE_FILE} or the key chat_template of {CONFIG_FILE} beside tokenizer.json",
        fix=f"name one: a file of Jinja, or {', '.join(SHIPPED)}",
    )


def _decoded(file: Location) -> str:
    try:
        return file.read().decode()
    except UnicodeDecodeError as error:
        raise UserError(
            f"chat template {clean_url(file.url)}: not UTF-8 at byte {error.start}",
            expected="a file of Jinja",
            fix="correct the name, or save the file as UTF-8",
        ) from error


class _Generation(Extension):
    """`{% generation %}`, with which templates for Transformers mark answers: what is inside, as it is."""

    tags = {"generation"}  # noqa: RUF012  # jinja's own declaration

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


@lru_cache(maxsize=4)
def _compile(source: str) -> Any:
    """Once per process: templates travel to workers as text."""
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, loopcontrols]
    )
    environment.filters["tojson"] = _to_json
    environment.globals["raise_exception"] = _raise
    return environment.from_string(source)


def _to_json(value: Any, ensure_ascii: bool = False, indent: int | None = None, **options: Any) -> str:
    """Jinja's own filter writes for HTML."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, **options)


def _raise(message: str) -> None:
    raise TemplateError(message)
