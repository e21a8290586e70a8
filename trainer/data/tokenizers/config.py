"""The `tokenizer` block of a pipeline file, picked by `type`: train a new one, or take one that exists.

Preparation and `gpt-run tokenizer` read it. `load_tokenizer_spec` gives the tokenizer behind every type but `bpe`,
which needs text first (`trainer.data.tokenizers.train`).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import Annotated, Any, Literal, NamedTuple, Self

from pydantic import Field, TypeAdapter, ValidationError, model_validator
from tokenizers import Tokenizer

from trainer.data.remote import Location, locate
from trainer.data.shards import TOKENIZER_FILE
from trainer.data.tokenizer import CONFIG_FILE, SMALLEST_VOCABULARY, load_tokenizer, read_config, token_text
from trainer.data.tokenizers.hub import download
from trainer.data.tokenizers.ranks import Pattern, read_rank_file
from trainer.errors import UserError
from trainer.settings import Settings

# The roles of special tokens that a tokenizer_config.json names.
ROLES = ("bos_token", "eos_token", "unk_token", "pad_token")

Style = Literal["byte-level", "gpt2", "llama"]
# Vocabulary where none is given, and the smallest that holds the style's bytes and special tokens.
DEFAULT_SIZE: dict[Style, int | None] = {"byte-level": None, "gpt2": 50_257, "llama": 32_000}
SMALLEST_SIZE: dict[Style, int] = {"byte-level": SMALLEST_VOCABULARY, "gpt2": SMALLEST_VOCABULARY, "llama": 260}


class BpeTokenizer(Settings):
    """Train BPE on a sample of the text."""

    type: Literal["bpe"]
    style: Style = "byte-level"
    """`byte-level`: GPT-2's way of splitting words, <|endoftext|> is id 0. `gpt2`: the same with GPT-2's ids, bytes
    first and <|endoftext|> last. `llama`: spaces as part of words, digits one by one, rare characters as bytes, <unk>,
    <s> and </s> first."""
    vocab_size: int | None = Field(default=None, ge=SMALLEST_VOCABULARY, le=1 << 24)
    """Ids, special tokens included; null takes the style's own: 50,257 for gpt2, 32,000 for llama."""
    sample_bytes: int = Field(default=100_000_000, gt=0)
    """Text to train on, in bytes of UTF-8: an even sample of the documents."""

    @property
    def size(self) -> int:
        """Ids of the finished tokenizer."""
        size = self.vocab_size or DEFAULT_SIZE[self.style]
        assert size is not None
        return size

    @model_validator(mode="after")
    def _size_fits_the_style(self) -> Self:
        size, smallest = self.vocab_size or DEFAULT_SIZE[self.style], SMALLEST_SIZE[self.style]
        if size is None:
            raise ValueError(f"vocab_size is missing; style {self.style} has no size of its own")
        if size < smallest:
            raise ValueError(f"vocab_size is {size}; style {self.style} needs at least {smallest}")
        return self


class FileTokenizer(Settings):
    """Use a tokenizer.json that exists."""

    type: Literal["file"]
    path: str = Field(min_length=1)
    """Path or URL of the tokenizer.json, or of the folder it lies in."""


class TiktokenTokenizer(Settings):
    """Use a tiktoken rank file: the same ids in a tokenizer.json."""

    type: Literal["tiktoken"]
    path: str = Field(min_length=1)
    """Path or URL of the rank file: one base64 token and its id a line."""
    pattern: Pattern | None = None
    """How text is split into words, which the file does not say; null takes it from the name of a known file."""
    special_tokens: dict[str, int] | None = None
    """Special tokens and their ids; null takes those of a known file, else <|endoftext|> behind the last rank."""


class HuggingFaceTokenizer(Settings):
    """Use the tokenizer.json of a model on the Hugging Face Hub."""

    type: Literal["huggingface"]
    name: str = Field(pattern=r"^[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?$")
    """Name of the repository, such as openai-community/gpt2."""
    revision: str = Field(default="main", min_length=1)
    """Branch, tag or commit; a commit makes the choice final."""


ExistingTokenizer = FileTokenizer | TiktokenTokenizer | HuggingFaceTokenizer
_AnyExisting = Annotated[ExistingTokenizer, Field(discriminator="type")]
TokenizerSettings = Annotated[BpeTokenizer | ExistingTokenizer, Field(discriminator="type")]


def existing_tokenizer(source: str, pattern: str | None, special_tokens: Sequence[str]) -> ExistingTokenizer:
    """What a command line names: hf://NAME[@REVISION], a rank file (.tiktoken, any with a pattern), a file or folder.

    `special_tokens` are written TOKEN=ID. Raises UserError for what makes no sense.
    """
    raw: dict[str, Any]
    if source.endswith(".tiktoken") or pattern is not None:
        raw = {"type": "tiktoken", "path": source, "pattern": pattern, "special_tokens": _numbered(special_tokens)}
    elif special_tokens:
        raise UserError(
            f"special tokens do not apply to {source}",
            expected="a rank file; other tokenizers say what their special tokens are",
            fix="leave them out, or name the pattern of the rank file",
        )
    elif source.startswith("hf://"):
        name, _, revision = source.removeprefix("hf://").partition("@")
        raw = {"type": "huggingface", "name": name, "revision": revision or "main"}
    else:
        raw = {"type": "file", "path": source}
    try:
        return TypeAdapter(_AnyExisting).validate_python(raw)
    except ValidationError as error:
        raise UserError(
            f"{source}: {error.errors()[0]['msg']}",
            expected="a tokenizer.json or its folder, a .tiktoken file, or hf://NAME[@REVISION]",
            fix="correct the name",
        ) from error


class Loaded(NamedTuple):
    """A tokenizer with what its files say about it."""

    tokenizer: Tokenizer
    named: dict[str, str]
    """Special tokens by their role, such as eos_token."""
    record: dict[str, Any]
    """Where it comes from."""


def load_tokenizer_spec(settings: ExistingTokenizer) -> Tokenizer:
    """The tokenizer that `settings` name, without padding or truncation. Raises UserError where it cannot be had."""
    return load_with_names(settings).tokenizer


def load_with_names(settings: ExistingTokenizer) -> Loaded:
    """The same with the roles of its special tokens and where it comes from."""
    match settings:
        case TiktokenTokenizer():
            tokenizer = read_rank_file(settings.path, settings.pattern, settings.special_tokens)
            return Loaded(tokenizer, {}, settings.model_dump(mode="json", exclude_none=True))
        case HuggingFaceTokenizer():
            file = download(settings.name, settings.revision, TOKENIZER_FILE)
            beside = download(settings.name, settings.revision, CONFIG_FILE, missing_ok=True)
            tokenizer = load_tokenizer(file.path)
            record = {**settings.model_dump(mode="json"), "commit": file.commit}
            named = _named(tokenizer, locate(str(beside.path))) if beside is not None else {}
            return Loaded(tokenizer, named, record)
        case FileTokenizer():
            location = file_of(settings.path)
            tokenizer = load_tokenizer(location.url)
            # Another file's name says nothing of what lies beside it.
            named = _named(tokenizer, location.sibling(CONFIG_FILE)) if location.name == TOKENIZER_FILE else {}
            return Loaded(tokenizer, named, settings.model_dump(mode="json"))


def tokenizer_label(settings: BpeTokenizer | ExistingTokenizer) -> str:
    """A short name for what dataset.json calls the tokenizer."""
    match settings:
        case BpeTokenizer():
            return f"{'bpe' if settings.style == 'byte-level' else settings.style}-{settings.size}"
        case HuggingFaceTokenizer():
            return settings.name
        case _:
            path = PurePosixPath(settings.path.rstrip("/"))
            return path.parent.name or path.stem if path.name == TOKENIZER_FILE else path.stem


def _numbered(given: Sequence[str]) -> dict[str, int] | None:
    tokens = {}
    for item in given:
        token, _, number = item.rpartition("=")
        if not token or not number.isdecimal():
            raise UserError(f"special token {item}", expected="TOKEN=ID, such as <|endoftext|>=50256", fix="write both")
        tokens[token] = int(number)
    return tokens or None


def file_of(path: str) -> Location:
    """The tokenizer.json that a user means: the file, or the one in the folder."""
    location = locate(path)
    info = location.info()
    return location.join(TOKENIZER_FILE) if info is not None and info["type"] == "directory" else location


def _named(tokenizer: Tokenizer, config: Location) -> dict[str, str]:
    """Roles and tokens of a tokenizer_config.json, as far as the tokenizer has these tokens."""
    given = read_config(config)
    named = {role: token_text(given.get(role)) for role in ROLES}
    return {role: token for role, token in named.items() if token and tokenizer.token_to_id(token) is not None}
