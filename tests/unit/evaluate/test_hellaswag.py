"""HellaSwag's items: what is read, what is refused, and what is scored."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from trainer.data.tokenizer import train_bpe
from trainer.errors import UserError
from trainer.evaluate.hellaswag import HellaSwag, Item, Row, encode_items, read_items, score_items, score_rows
from trainer.model.config import GPT2Config
from trainer.model.decoder import Decoder
from trainer.model.init import initialise

TOKENIZER = train_bpe([(Decoder.__doc__ or "") * 3], 300)
ITEM = {"ind": 24, "ctx": "A man sits.", "endings": ["he stands.", "he eats.", "it rains.", "no"], "label": "1"}


def write(path: Path, *lines: Any) -> str:
    path.write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines) + "\n")
    return str(path)


def model(context: int = 64) -> Decoder:
    made = Decoder(GPT2Config(vocab_size=300, context=context, layers=1, width=16, heads=2))
    initialise(made, 1)
    return made.eval()


def score(items: list[Item], context: int = 64) -> HellaSwag:
    return score_items(model(context), items, encoded(items, context), lambda _: None)


def encoded(items: list[Item], context: int = 64) -> list[list[Row]]:
    return encode_items(TOKENIZER, items, context=context, vocab_size=300)


def test_items_are_read_with_labels_as_text_or_number(tmp_path: Path) -> None:
    items = read_items(write(tmp_path / "items.jsonl", ITEM, "", ITEM | {"label": 3}))
    assert [item.label for item in items] == [1, 3]
    assert items[0].endings[2] == "it rains."


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ('{"ctx": "A man', "Unterminated string"),
        ("[1, 2]", "the line: Input should be"),
        ({"endings": ["a", "b"], "label": 0}, "ctx: Field required"),
        (ITEM | {"endings": ["one"]}, "endings: Tuple should have at least 2 items"),
        (ITEM | {"label": 4}, "label 4 of 4 endings"),
        # The published test set.
        (ITEM | {"label": ""}, "label: Input should be a valid integer"),
        (ITEM | {"endings": ["a", " "]}, "label 1 of 2 endings, none of which may be empty"),
    ],
)
def test_a_broken_line_is_named(line: Any, found: str, tmp_path: Path) -> None:
    path = write(tmp_path / "items.jsonl", ITEM, ITEM, line)
    with pytest.raises(UserError, match=f"items.jsonl, line 3: {found}"):
        read_items(path)


def test_a_missing_and_an_empty_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none\.jsonl: no such file"):
        read_items(str(tmp_path / "none.jsonl"))
    with pytest.raises(UserError, match=r"empty\.jsonl is empty"):
        read_items(write(tmp_path / "empty.jsonl", ""))


def test_an_ending_is_encoded_by_itself_after_a_space() -> None:
    ((first, *_),) = encoded([Item.model_validate(ITEM)])
    assert TOKENIZER.decode(first.tokens) == "A man sits. he stands."
    assert TOKENIZER.decode(first.tokens[-first.ending_tokens :]) == " he stands."


@torch.no_grad()
def test_the_sum_is_over_the_ending_alone_whatever_else_is_in_the_batch() -> None:
    decoder = model()
    rows = [Row([5, 9, 200, 7], 2), Row([1, 2, 3, 4, 5, 6, 7], 1)]
    together = score_rows(decoder, rows, 300)
    for row, found in zip(rows, together, strict=True):
        log_probs_TV = decoder(torch.tensor([row.tokens[:-1]]))[0].log_softmax(-1)
        places = range(len(row.tokens) - row.ending_tokens, len(row.tokens))
        expected = sum(float(log_probs_TV[place - 1, row.tokens[place]]) for place in places)
        assert found == pytest.approx(expected, abs=1e-5)


def test_the_likelier_ending_wins_and_length_counts_only_in_the_sum() -> None:
    """Every token is equally likely to a model of zeros, so the shortest has the largest sum, and all the same mean."""
    zeros = model()
    for parameter in zeros.parameters():
        torch.nn.init.zeros_(parameter)
    shortest = Item.model_validate(ITEM | {"endings": ["aaaa bbbb", "aaaa", "aaaa bbbb cccc"], "label": 1})
    first = Item.model_validate(ITEM | {"endings": ["aaaa bbbb", "aaaa", "aaaa bbbb cccc"], "label": 0})
    found = score_items(zeros, [shortest, first], encoded([shortest, first]), lambda _: None)
    assert (found.acc, found.acc_norm) == (0.5, 0.5)
    assert (found.items, found.shortened) == (2, 0)


def test_what_is_longer_than_the_context_loses_its_beginning() -> None:
    longer = Item.model_validate(ITEM | {"ctx": "A man sits. " * 20})
    assert score([Item.model_validate(ITEM), longer]).shortened == 1


def test_an_ending_longer_than_the_context_is_refused() -> None:
    item = Item.model_validate(ITEM | {"endings": ["a b c d e f g h i j k", "a"], "label": 0})
    with pytest.raises(UserError, match="item 2: an ending of 20 tokens"):
        encoded([Item.model_validate(ITEM | {"endings": ["a", "b"]}), item], context=8)


def test_a_tokenizer_of_a_larger_vocabulary_is_refused() -> None:
    larger = train_bpe([(Decoder.__doc__ or "") * 3 + " he stands. he stands."], 420)
    item = Item.model_validate(ITEM | {"ctx": Decoder.__doc__})
    with pytest.raises(UserError, match=r"gives id \d+, the model's vocabulary has 300 ids"):
        encode_items(larger, [item], context=64, vocab_size=300)
