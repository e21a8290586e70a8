"""Pipeline files: what one prepared data set is made of. Read by `gpt-run data prepare` and `gpt-run tokenizer`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pydantic import Field, ValidationError

from trainer.complaints import complaints
from trainer.data.chat import ChatTemplate, load_template
from trainer.data.clean.near import NearDuplicates
from trainer.data.clean.steps import AnyStep, steps_sha256
from trainer.data.sources import ChatSource, TextSource
from trainer.data.sources.token_files import TokenFiles
from trainer.data.tokenizer import tokenizer_fingerprint
from trainer.data.tokenizers.config import (
    BpeTokenizer,
    ExistingTokenizer,
    FileTokenizer,
    TokenizerSettings,
    file_of,
    load_tokenizer_spec,
    tokenizer_label,
)
from trainer.errors import UserError
from trainer.overrides import apply_override
from trainer.settings import Settings, joined_sha256, settings_sha256
from trainer.yaml_dialect import load_yaml

# Raise when the same inputs give other cleaned text, or other shards, than before.
CLEANING_METHOD = 1
METHOD = 2


class Duplicates(Settings):
    """Which documents count as repetitions of earlier ones and are left out."""

    exact: bool = True
    """Leave out documents whose cleaned text an earlier document has."""
    near: NearDuplicates | None = None
    """Leave out documents that are nearly those of earlier documents; null keeps them."""


class Pipeline(Settings):
    """One prepared data set: sources, cleaning, tokenizer, and how it is cut."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]*$")
    """Name of the data set."""
    output: str = Field(min_length=1)
    """Folder that is written."""
    sources: tuple[TextSource, ...] = Field(min_length=1)
    """Where text comes from, in this order."""
    clean: tuple[AnyStep, ...] = ()
    """What is done with each document, in this order; each step says how many documents it dropped."""
    duplicates: Duplicates = Duplicates()
    """Repetitions that are left out."""
    cleaned: str | None = Field(default=None, min_length=1)
    """Folder for the cleaned text, which then stays: pipelines that differ in what comes after it share the work. Null
    keeps it beside the output until that is complete."""
    tokenizer: TokenizerSettings
    """How text becomes ids, picked by `type`: learned here, or taken over."""
    validation_fraction: float = Field(default=0.005, ge=0, lt=1)
    """Share of the documents that go to the validation split, picked by the hash of their text."""
    shard_tokens: int = Field(default=100_000_000, gt=0)
    """Tokens of one shard; the document that reaches it is the shard's last."""
    seed: int = 0
    """Changes which documents are used for validation and for the tokenizer's sample."""

    @property
    def tokenizer_name(self) -> str:
        """What dataset.json calls the tokenizer."""
        label = tokenizer_label(self.tokenizer)
        return f"{self.name}-{label}" if isinstance(self.tokenizer, BpeTokenizer) else label

    def source_states(self) -> list[str]:
        """Settings and state of each source, for hashes of what is made of them."""
        return [f"{settings_sha256(source)} {source.fingerprint()}" for source in self.sources]

    def inputs(self) -> Inputs:
        """What the output is made of."""
        near = self.duplicates.near
        cleaning = joined_sha256(
            [
                str(CLEANING_METHOD),
                str(self.seed),
                *self.source_states(),
                steps_sha256(self.clean),
                f"{settings_sha256(self.duplicates)} {near.method() if near is not None else ''}",
            ]
        )
        parts = [str(METHOD), cleaning]
        parts.append(settings_sha256(self.model_copy(update={"output": "-", "cleaned": None})))
        if not isinstance(self.tokenizer, BpeTokenizer):
            parts.append(tokenizer_fingerprint(load_tokenizer_spec(self.tokenizer)))
        return Inputs(joined_sha256(parts), cleaning)


class ChatSettings(Settings):
    """How conversations become rows of tokens."""

    template: str | None = None
    """Chat template: `chatml` or `plain`, or the path or URL of a file of Jinja; null takes that of the tokenizer's
    folder (chat_template.jinja, or the key chat_template of tokenizer_config.json)."""
    sequence_length: int = Field(ge=2)
    """Tokens of the sequences that conversations are packed into; runs on this set have the same `sequence_length`."""
    too_long: Literal["drop", "cut"] = "drop"
    """What becomes of a conversation longer than a sequence: it is left out, or its beginning is; both are counted."""


class ChatPipeline(Pipeline):
    """A data set of conversations for `task: sft`: answers are marked, and samples packed into rows of one length."""

    sources: tuple[ChatSource, ...] = Field(min_length=1)  # type: ignore[assignment]  # other sources than of text
    """Where conversations come from, in this order."""
    clean: tuple[()] = ()
    """Always empty: conversations are not cleaned."""
    tokenizer: ExistingTokenizer = Field(discriminator="type")
    """The tokenizer of the model that is trained."""
    chat: ChatSettings
    """Template, length, and what to do with conversations that are too long."""

    def load_template(self) -> ChatTemplate:
        """The chat template, with the special tokens of the tokenizer."""
        folder = None
        if isinstance(self.tokenizer, FileTokenizer):
            file = file_of(self.tokenizer.path).url
            folder = file.rpartition("/")[0] or "."
        return load_template(self.chat.template, load_tokenizer_spec(self.tokenizer), tokenizer_folder=folder)

    def inputs(self) -> Inputs:
        found = super().inputs()
        template = self.load_template()
        return found._replace(
            output=joined_sha256([found.output, template.source, template.bos_token, template.eos_token])
        )


class Inputs(NamedTuple):
    """What an output is made of, as hex sha256. Asked for once: sources list their files for it."""

    output: str
    """Of everything that decides the output."""
    cleaning: str = ""
    """Of what decides the cleaned text: sources and their state, steps, duplicates, seed."""


class TokenPipeline(Settings):
    """A data set of tokens that are ready: copied into shards, none of them changed."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]*$")
    """Name of the data set."""
    output: str = Field(min_length=1)
    """Folder that is written."""
    sources: tuple[TokenFiles, ...] = Field(min_length=1)
    """The token files, in this order."""
    tokenizer: ExistingTokenizer = Field(discriminator="type")
    """The tokenizer that made them."""
    shard_tokens: int = Field(default=100_000_000, gt=0)
    """Tokens of one shard; the row that reaches it is the shard's last."""

    @property
    def tokenizer_name(self) -> str:
        """What dataset.json calls the tokenizer."""
        return tokenizer_label(self.tokenizer)

    def inputs(self) -> Inputs:
        """What the output is made of."""
        parts = [str(METHOD), *(source.fingerprint() for source in self.sources)]
        parts.append(settings_sha256(self.model_copy(update={"output": "-"})))
        parts.append(tokenizer_fingerprint(load_tokenizer_spec(self.tokenizer)))
        return Inputs(joined_sha256(parts))


def load_pipeline(name: str, overrides: Sequence[str] = ()) -> Pipeline | TokenPipeline:
    """Read a pipeline from a YAML file, or one that comes with the package by its name, and apply `overrides`.

    One with a source of type `tokens` is a pipeline of tokens, one with the key `chat` one of conversations.
    """
    shipped = {path.name.removesuffix(".yaml"): path for path in _shipped() if path.name.endswith(".yaml")}
    if name in shipped:
        with resources.as_file(shipped[name]) as path:
            raw = load_yaml(path)
    elif Path(name).is_file():
        raw = load_yaml(Path(name))
    else:
        raise UserError(
            f"no pipeline {name}",
            expected=f"a YAML file, or one of {', '.join(sorted(shipped))}",
            fix="check the path of the pipeline file",
        )
    if not isinstance(raw, dict):
        raise UserError(
            f"pipeline {name}: " + ("empty" if raw is None else f"a {type(raw).__name__}, not a mapping"),
            expected="the keys of a pipeline: " + ", ".join(Pipeline.model_fields),
            fix="write the file as `key: value` lines",
        )
    for override in overrides:
        apply_override(raw, override)
    kind = TokenPipeline if _has_tokens(raw) else ChatPipeline if "chat" in raw else Pipeline
    try:
        return kind.model_validate(raw)
    except ValidationError as error:
        raise UserError(
            f"pipeline {name}: {'; '.join(complaints(error, raw, kind))}",
            expected=f"the keys of a pipeline{_KINDS.get(kind, '')}: " + ", ".join(kind.model_fields),
            fix="correct the keys named above",
        ) from error


def load_text_pipeline(name: str, overrides: Sequence[str] = ()) -> Pipeline:
    """The same, for what needs text. Raises UserError for a pipeline of tokens."""
    pipeline = load_pipeline(name, overrides)
    if isinstance(pipeline, TokenPipeline):
        raise UserError(
            f"pipeline {name} has sources of tokens",
            expected="a pipeline of text",
            fix="name a pipeline whose sources hold text",
        )
    return pipeline


_KINDS: dict[type[Settings], str] = {TokenPipeline: " of tokens", ChatPipeline: " of conversations"}


def _has_tokens(raw: dict[Any, Any]) -> bool:
    sources = raw.get("sources")
    return isinstance(sources, list) and any(
        isinstance(source, dict) and source.get("type") == "tokens" for source in sources
    )


def _shipped() -> Iterator[Any]:
    return iter(resources.files("trainer").joinpath("presets", "data").iterdir())
