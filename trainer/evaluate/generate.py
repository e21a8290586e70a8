"""Text from a model: sampling, one token at a time.

Called by `gpt-run generate`. Each step runs the whole context again: simple, and fast enough to look at a model.

Shape suffixes: B = 1 sequence, T = tokens so far, V = vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from trainer.errors import UserError
from trainer.evaluate.pretrained import Pretrained


@dataclass(frozen=True)
class Sampling:
    """How the next token is drawn."""

    max_tokens: int = 100
    temperature: float = 0.8
    """Divides the logits; 0 takes the most likely token each time."""
    top_k: int = 50
    """Draw from the K most likely tokens only; 0 for all."""
    seed: int = 1


def generate_text(pretrained: Pretrained, prompt: str, sampling: Sampling) -> Iterator[str]:
    """Yield pieces of text that go on from `prompt`, until the end-of-text token or `max_tokens`."""
    if pretrained.tokenizer is None:
        raise UserError(
            f"{pretrained.url}: no tokenizer is known for this model",
            expected="a tokenizer.json beside the training data or in the model folder",
            fix="name one with --tokenizer FILE",
        )
    ids = pretrained.tokenizer.encode(prompt).ids
    if not ids:
        if pretrained.eos_id is None:
            raise UserError("the prompt is empty", expected="some text to go on from", fix='add --prompt "..."')
        ids = [pretrained.eos_id]  # documents follow an end-of-text token in training
    if max(ids) >= pretrained.config.vocab_size:
        raise UserError(
            f"the tokenizer gives id {max(ids)} for the prompt, the vocabulary of {pretrained.url} has "
            f"{pretrained.config.vocab_size} ids",
            expected="the tokenizer that the model was trained with",
            fix="name it with --tokenizer FILE",
        )
    produced: list[int] = []
    shown = ""
    for token in generate_ids(pretrained.model, ids, sampling, context=pretrained.config.context):
        if token == pretrained.eos_id:
            break
        produced.append(token)
        text = pretrained.tokenizer.decode(produced)
        # A character of several bytes may still be incomplete.
        if not text.endswith("\N{REPLACEMENT CHARACTER}"):
            yield text[len(shown) :]
            shown = text


@torch.no_grad()
def generate_ids(model: torch.nn.Module, prompt: list[int], sampling: Sampling, *, context: int) -> Iterator[int]:
    """Yield `max_tokens` token ids that go on from `prompt`; only the last `context` tokens are looked at."""
    generator = torch.Generator().manual_seed(sampling.seed)
    device = next(model.parameters()).device
    ids = list(prompt)
    for _ in range(sampling.max_tokens):
        tokens_BT = torch.tensor([ids[-context:]], device=device)
        token = sample(model(tokens_BT)[0, -1].float().cpu(), sampling, generator)
        ids.append(token)
        yield token


def sample(logits_V: Tensor, sampling: Sampling, generator: torch.Generator) -> int:
    """Draw one token id from fp32 logits."""
    if sampling.temperature == 0:
        return int(logits_V.argmax())
    logits_V = logits_V / sampling.temperature
    if 0 < sampling.top_k < len(logits_V):
        threshold = torch.topk(logits_V, sampling.top_k).values[-1]
        logits_V = logits_V.masked_fill(logits_V < threshold, float("-inf"))
    return int(torch.multinomial(torch.softmax(logits_V, dim=-1), 1, generator=generator))
