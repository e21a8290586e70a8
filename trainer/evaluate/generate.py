"""Text from a model: prompts in, pieces of text out, several prompts at once.

Called by `gpt-run generate`, `gpt-run serve` and evaluation. The prompts of a batch are computed together, token by
token over a cache of keys and values; what a row draws does not depend on the rows beside it.

Shape suffixes: B = prompts of a batch, T = tokens of the longest prompt, V = vocabulary.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence, Set
from dataclasses import dataclass, replace
from typing import Literal

import torch
from tokenizers import Tokenizer

from trainer.errors import UserError
from trainer.evaluate.pretrained import Pretrained
from trainer.evaluate.sampling import Sampling, choose
from trainer.evaluate.text_stream import TextStream
from trainer.model.cache import KeyValueCache
from trainer.model.decoder import Decoder

Finish = Literal["stop", "length"]
DEFAULT_TOKENS = 100
# Keys and values of a batch: bounds its memory, and with it the prompts that are computed together.
_CACHE_BYTES = 2**30


@dataclass(frozen=True)
class Piece:
    """What a token added to the text of one prompt; often no text yet."""

    row: int
    """Number of the prompt."""
    text: str
    finish: Finish | None = None
    """With the last piece: the end-of-text token or a stop string came, or the text is as long as it may be."""


@dataclass(frozen=True)
class Completion:
    """The whole text that goes on from a prompt."""

    prompt: str
    text: str
    finish_reason: Finish
    prompt_tokens: int
    completion_tokens: int
    """Tokens that were made, those of a stop string and of the end of text included."""


def complete(pretrained: Pretrained, prompts: Sequence[str], sampling: Sampling) -> list[Completion]:
    """The texts that go on from `prompts`. UserError as `encode_prompt` has it."""
    encoded = [encode_prompt(pretrained, prompt, sampling.max_tokens) for prompt in prompts]
    texts, ends, tokens = [""] * len(prompts), {}, [0] * len(prompts)
    for piece in generate(pretrained, encoded, sampling):
        texts[piece.row] += piece.text
        tokens[piece.row] += 1
        if piece.finish is not None:
            ends[piece.row] = piece.finish
    return [
        Completion(prompt, texts[row], ends[row], len(encoded[row]), tokens[row]) for row, prompt in enumerate(prompts)
    ]


def encode_prompt(pretrained: Pretrained, prompt: str, max_tokens: int | None) -> list[int]:
    """Token ids of `prompt`; an empty one is the start of a document, which an end-of-text token stands before.

    UserError where no tokenizer is known, where it is not the model's, where the prompt is no Unicode text, or where
    prompt and `max_tokens` (None: one) together are longer than the model's context.
    """
    return check_ids(pretrained, encode_text(require_tokenizer(pretrained), prompt), max_tokens)


def encode_text(tokenizer: Tokenizer, text: str, *, add_special_tokens: bool = True) -> list[int]:
    """The ids of `text`. UserError for halves of surrogate pairs: JSON can spell them, and so can a command line."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise UserError(
            f"the prompt is no Unicode text: {error.reason} at character {error.start}",
            expected="whole characters; on a command line and in files as UTF-8",
            fix="correct the prompt",
        ) from error
    ids: list[int] = tokenizer.encode(text, add_special_tokens=add_special_tokens).ids
    return ids


def check_ids(pretrained: Pretrained, ids: list[int], max_tokens: int | None) -> list[int]:
    """The ids of a prompt, if the model can go on from them; see `encode_prompt`."""
    if not ids:
        if pretrained.eos_id is None:
            raise UserError(
                "the prompt is empty",
                expected="some text to go on from: no end-of-text token is known, after which a document would start",
                fix="write a prompt",
            )
        ids = [pretrained.eos_id]
    # Looked up on a GPU, such an id would end the process's work there for good.
    foreign = next((number for number in ids if not 0 <= number < pretrained.config.vocab_size), None)
    if foreign is not None:
        raise UserError(
            f"the id {foreign} in the prompt, where the vocabulary of {pretrained.url} has "
            f"{pretrained.config.vocab_size} ids",
            expected="ids of the tokenizer that the model was trained with",
            fix="name it with --tokenizer FILE",
        )
    _check_length(pretrained, len(ids), max_tokens)
    return ids


def require_tokenizer(pretrained: Pretrained) -> Tokenizer:
    """The tokenizer of a model that is about to read text; UserError where none is known."""
    if pretrained.tokenizer is None:
        raise UserError(
            f"{pretrained.url}: no tokenizer is known for this model",
            expected="a tokenizer.json beside the training data or in the model folder",
            fix="name one with --tokenizer FILE",
        )
    return pretrained.tokenizer


def _check_length(pretrained: Pretrained, prompt_tokens: int, max_tokens: int | None) -> None:
    context = pretrained.config.context
    room = context - prompt_tokens
    if room < (max_tokens or 1):
        raise UserError(
            f"a prompt of {prompt_tokens} tokens and max_tokens {max_tokens or 'of at least 1'}",
            expected=f"together at most the context of {pretrained.url}, {context} tokens",
            fix=f"set max_tokens to {room} or less, or shorten the prompt"
            if room > 0
            else f"shorten the prompt to at most {context - 1} tokens",
        )


def generate(
    pretrained: Pretrained,
    prompts: Sequence[Sequence[int]],
    sampling: Sampling,
    *,
    seeds: Sequence[int] | None = None,
    end_ids: Set[int] = frozenset(),
) -> Iterator[Piece]:
    """Go on from token ids; one piece per token and prompt, the last of each prompt with its `finish`.

    Row b draws with `seeds[b]`, or all with the sampling's own: the text of a prompt is then the same whatever stands
    beside it. A text ends at the end-of-text token and at any of `end_ids`. To end it early, close the iterator.
    Lengths are the caller's to check (`encode_prompt`).
    """
    ends = end_ids | {pretrained.eos_id}
    seeds = [sampling.seed] * len(prompts) if seeds is None else seeds
    start = 0
    for size in _batch_sizes(pretrained.model, prompts, sampling.max_tokens or DEFAULT_TOKENS):
        rows = slice(start, start + size)
        for piece in _generate_batch(pretrained, prompts[rows], sampling, seeds[rows], ends):
            yield replace(piece, row=piece.row + start)
        start += size


def in_order(pieces: Iterable[Piece]) -> Iterator[Piece]:
    """The pieces of row 0 as they come, then those of row 1, and so on: what a terminal can show while it is made."""
    current = 0
    held: dict[int, list[Piece]] = defaultdict(list)
    for piece in pieces:
        held[piece.row].append(piece)
        while held[current]:
            ready = held.pop(current)
            yield from ready
            current += ready[-1].finish is not None


def _batch_sizes(model: Decoder, prompts: Sequence[Sequence[int]], max_tokens: int) -> Iterator[int]:
    """Numbers of prompts, in order, whose cache is within bounds."""
    config = model.config
    column_bytes = 2 * config.layers * config.kv_heads * config.head_width * model.embed.weight.element_size()
    size, longest = 0, 0
    for prompt in prompts:
        longest = max(longest, len(prompt))
        if size and (size + 1) * (longest + max_tokens) * column_bytes > _CACHE_BYTES:
            yield size
            size, longest = 0, len(prompt)
        size += 1
    if size:
        yield size


def _generate_batch(
    pretrained: Pretrained,
    prompts: Sequence[Sequence[int]],
    sampling: Sampling,
    seeds: Sequence[int],
    ends: Set[int | None],
) -> Iterator[Piece]:
    tokenizer = require_tokenizer(pretrained)
    streams = {row: TextStream(tokenizer, prompt, sampling.stop) for row, prompt in enumerate(prompts)}
    wanted, context = sampling.max_tokens or DEFAULT_TOKENS, pretrained.config.context
    limits = [min(wanted, context - len(prompt)) for prompt in prompts]
    tokens = TokenBatch(pretrained.model, prompts, sampling, seeds, max_tokens=max(limits))
    for number in range(1, max(limits) + 1):
        drawn = tokens.step()
        for row, stream in list(streams.items()):
            ended = drawn[row] in ends
            text = "" if ended else stream.add(drawn[row])
            finish: Finish | None = "stop" if ended or stream.stopped else None
            if finish is None and number == limits[row]:
                finish = "length"
            if finish is not None:
                text += stream.finish()
                # A stop string may have been waiting for its last character.
                finish = "stop" if stream.stopped else finish
                del streams[row]
            yield Piece(row, text, finish)
        if not streams:
            return


class TokenBatch:
    """Token ids that go on from several prompts at once."""

    def __init__(
        self,
        model: Decoder,
        prompts: Sequence[Sequence[int]],
        sampling: Sampling,
        seeds: Sequence[int],
        *,
        max_tokens: int,
    ) -> None:
        """`max_tokens` bounds the number of steps."""
        self._model, self._sampling = model, sampling
        self._generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        longest = max(map(len, prompts))
        paddings = [longest - len(prompt) for prompt in prompts]
        weight = model.embed.weight
        self._cache = KeyValueCache(
            model.config,
            paddings,
            longest + max_tokens,
            dtype=weight.dtype,
            device=weight.device,
            document_end_id=model.document_end_id,
        )
        # Padding may be any id: no token sees it.
        padded = [[0] * padding + list(prompt) for padding, prompt in zip(paddings, prompts, strict=True)]
        self._new_BT = torch.tensor(padded, device=weight.device)
        self._seen_BV: torch.Tensor | None = None
        if sampling.repetition_penalty != 1:
            self._seen_BV = torch.zeros((len(prompts), model.config.vocab_size), dtype=torch.bool)
            for row, prompt in enumerate(prompts):
                self._seen_BV[row, list(prompt)] = True

    @torch.inference_mode()
    def step(self) -> list[int]:
        """The next token of each prompt."""
        logits_BV = self._model.extend(self._new_BT, self._cache).float().cpu()
        chosen_B = choose(logits_BV, self._sampling, self._generators, self._seen_BV)
        if self._seen_BV is not None:
            self._seen_BV.scatter_(1, chosen_B[:, None], True)
        self._new_BT = chosen_B[:, None].to(self._new_BT.device)
        chosen: list[int] = chosen_B.tolist()
        return chosen
