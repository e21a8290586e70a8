"""HellaSwag, completion style (Zellers et al., arXiv:1905.07830): which of four endings does the model find likeliest?

Called by `trainer.evaluate.evaluation`. Items are JSON lines as their authors publish them, or of the same keys about
any other text. An ending is encoded after a space, by itself, and scored by its own tokens after those of the context:
`acc` takes the largest sum of log-probabilities, `acc_norm` the largest mean per token, so that a short ending has no
advantage. The harness of EleutherAI scores another text in another way; docs/decisions/evaluation.md compares.

Shapes: B rows of a batch, T tokens of the longest of them, V vocabulary.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn import functional as F

from trainer.data.remote import locate
from trainer.errors import UserError
from trainer.model.decoder import Decoder
from trainer.storage_errors import clean_url

# Logits of all positions exist in a pass: bounds their memory, and with it the rows in one pass.
_LOGITS_BYTES = 512 * 2**20


class Item(BaseModel):
    """One line of the file."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    ctx: str = Field(min_length=1)
    endings: tuple[str, ...] = Field(min_length=2)
    label: int = Field(ge=0)
    """Number of the right ending, from 0; the published file has it as text."""


class HellaSwag(BaseModel):
    """What the items showed."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    acc: float
    """Share of items whose right ending has the largest sum of log-probabilities."""
    acc_norm: float
    """Share of items whose right ending has the largest mean of log-probabilities per token."""
    items: int
    """Items that were scored."""
    shortened: int
    """Items of which the beginning was left out, since they are longer than the model's context."""


@dataclass(frozen=True)
class Row:
    """One ending behind its context, as tokens."""

    tokens: list[int]
    ending_tokens: int

    def within(self, context: int) -> Row:
        """Without what is too far back for a model of that context, which reads all but the last token."""
        return Row(self.tokens[-context - 1 :], self.ending_tokens)


def read_items(path: str) -> list[Item]:
    """The items of a file, local or remote. UserError where it is missing or empty, or for a broken line, by number."""
    shown = clean_url(path)
    try:
        lines = locate(path).read().splitlines()
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
        raise UserError(
            f"{shown}: no such file",
            expected="HellaSwag's items as JSON lines, such as hellaswag_val.jsonl",
            fix="check the path, or download the file from github.com/rowanz/hellaswag",
        ) from error
    items = [_item(line, f"{shown}, line {number}") for number, line in enumerate(lines, start=1) if line.strip()]
    if not items:
        raise UserError(f"{shown} is empty", expected="an item a line", fix="download the file again")
    return items


def encode_items(tokenizer: Tokenizer, items: Sequence[Item], *, context: int, vocab_size: int) -> list[list[Row]]:
    """The endings of each item as tokens, each behind the item's context.

    UserError for an ending longer than a model's `context`, and for a tokenizer with more than `vocab_size` ids.
    """
    encoded = [_encode(tokenizer, item) for item in items]
    for number, rows in enumerate(encoded, start=1):
        _check_rows(rows, number, context=context, vocab_size=vocab_size)
    return encoded


def score_items(
    model: Decoder, items: Sequence[Item], encoded: Sequence[list[Row]], each_item: Callable[[int], None]
) -> HellaSwag:
    """Score items; `encoded` is what `encode_items` gave, and `each_item` is told how many are done."""
    right = right_by_mean = shortened = 0
    for done, (item, whole) in enumerate(zip(items, encoded, strict=True)):
        each_item(done)
        rows = [row.within(model.config.context) for row in whole]
        shortened += rows != whole
        sums = score_rows(model, rows, model.config.vocab_size)
        means = [total / row.ending_tokens for total, row in zip(sums, rows, strict=True)]
        right += _largest(sums) == item.label
        right_by_mean += _largest(means) == item.label
    count = len(items)
    return HellaSwag(acc=right / count, acc_norm=right_by_mean / count, items=count, shortened=shortened)


@torch.no_grad()
def score_rows(model: torch.nn.Module, rows: Sequence[Row], vocab_size: int) -> list[float]:
    """Sum of the log-probabilities of each row's last `ending_tokens` tokens, given all before them."""
    device = next(model.parameters()).device
    longest = max(len(row.tokens) for row in rows) - 1
    at_once = max(1, _LOGITS_BYTES // (longest * vocab_size * 4))
    sums: list[float] = []
    for start in range(0, len(rows), at_once):
        some = rows[start : start + at_once]
        # What stands behind a row's end is not looked at: no position sees a later one.
        tokens_BT = torch.zeros((len(some), longest + 1), dtype=torch.int64)
        for number, row in enumerate(some):
            tokens_BT[number, : len(row.tokens)] = torch.tensor(row.tokens)
        logits_BTV: Tensor = model(tokens_BT[:, :-1].to(device))
        for number, row in enumerate(some):
            last = len(row.tokens) - 1
            own = slice(last - row.ending_tokens, last)
            targets = torch.tensor(row.tokens[-row.ending_tokens :], device=device)
            losses = F.cross_entropy(logits_BTV[number, own].float(), targets, reduction="none")
            sums.append(-float(losses.double().sum()))
    return sums


def _encode(tokenizer: Tokenizer, item: Item) -> list[Row]:
    before = tokenizer.encode(item.ctx, add_special_tokens=False).ids
    endings = (tokenizer.encode(f" {ending}", add_special_tokens=False).ids for ending in item.endings)
    return [Row([*before, *ids], len(ids)) for ids in endings]


def _check_rows(rows: Sequence[Row], number: int, *, context: int, vocab_size: int) -> None:
    longest = max(row.ending_tokens for row in rows)
    if longest > context:
        raise UserError(
            f"item {number}: an ending of {longest} tokens",
            expected=f"endings of at most the model's context, {context} tokens",
            fix="leave the item out, or evaluate a model with a longer context",
        )
    largest = max(max(row.tokens) for row in rows)
    if largest >= vocab_size:
        raise UserError(
            f"item {number}: the tokenizer gives id {largest}, the model's vocabulary has {vocab_size} ids",
            expected="the tokenizer that the model was trained with",
            fix="name it with --tokenizer FILE",
        )


def _largest(values: Sequence[float]) -> int:
    return max(range(len(values)), key=values.__getitem__)


def _item(line: bytes, where: str) -> Item:
    try:
        item = Item.model_validate(json.loads(line))
        if item.label >= len(item.endings) or not all(ending.strip() for ending in item.endings):
            raise ValueError(f"label {item.label} of {len(item.endings)} endings, none of which may be empty")
    except ValidationError as error:
        found = error.errors()[0]
        raise _broken(where, f"{'.'.join(map(str, found['loc'])) or 'the line'}: {found['msg']}") from error
    except (ValueError, RecursionError) as error:
        raise _broken(where, str(error)) from error
    return item


def _broken(where: str, reason: str) -> UserError:
    return UserError(
        f"{where}: {reason}",
        expected='an object with "ctx", "endings" and "label"; the published test set has no labels',
        fix="download the file again, or leave the line out",
    )
