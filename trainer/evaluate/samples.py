"""Texts that a model in training writes, from fixed prompts; called by the train loop.

All ranks run the same forward passes together, as a sharded model needs, always equally many: a rank that drew another
token, by a bit of rounding, holds up nobody. Rank 0's texts are the ones that are kept. Every pass has the same shape,
so that compiled blocks are compiled for it once, and random numbers come from generators of its own: the loss of a run
does not depend on its samples.

Shape suffixes: P = prompts in one pass, T = tokens of a prompt and its sample, V = vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from tokenizers import Tokenizer

from trainer.data.split import TokenizerInfo, TokenSplit
from trainer.data.tokenizer import end_of_text_id, load_tokenizer
from trainer.errors import UserError
from trainer.evaluate.config import SamplesConfig
from trainer.evaluate.sampling import Sampling, choose
from trainer.model.decoder import Decoder

# Logits of all positions exist in a pass: bounds their memory, and with it the prompts in one pass.
_LOGITS_BYTES = 512 * 2**20


class Sampler:
    """Prompts as tokens, ready for any step of a run."""

    def __init__(
        self, config: SamplesConfig, tokenizer: Tokenizer, end_id: int, *, context: int, vocab_size: int
    ) -> None:
        """UserError for a prompt that does not fit the model."""
        self._config, self._tokenizer, self._end_id = config, tokenizer, end_id
        # Documents follow an end-of-text token in training.
        self._prompts = [tokenizer.encode(prompt).ids or [end_id] for prompt in config.prompts]
        longest = max(map(len, self._prompts))
        if longest + config.max_tokens > context:
            raise UserError(
                f"evaluate.samples: a prompt of {longest} tokens and max_tokens {config.max_tokens}",
                expected=f"together at most model.context = {context}",
                fix="shorten the prompt, or lower evaluate.samples.max_tokens",
            )
        if max(map(max, self._prompts)) >= vocab_size:
            raise UserError(
                f"evaluate.samples: the tokenizer gives id {max(map(max, self._prompts))} for a prompt, "
                f"model.vocab_size is {vocab_size}",
                expected="the tokenizer that the training data was made with",
                fix="correct evaluate.samples.tokenizer",
            )
        self._length = longest + config.max_tokens
        self._rows = max(1, _LOGITS_BYTES // (self._length * vocab_size * 4))

    @torch.no_grad()
    def texts(self, model: Decoder, device: torch.device, each_pass: Callable[[], None]) -> list[tuple[str, str]]:
        """(prompt, what the model went on with) for each prompt. Collective; `each_pass` is called before each pass."""
        was_training = model.training
        model.eval()
        try:
            tokens = [
                row
                for start in range(0, len(self._prompts), self._rows)
                for row in self._continue(model, self._prompts[start : start + self._rows], device, each_pass)
            ]
        finally:
            model.train(was_training)
        return [(prompt, self._text(row)) for prompt, row in zip(self._config.prompts, tokens, strict=True)]

    def _continue(
        self, model: Decoder, prompts: Sequence[list[int]], device: torch.device, each_pass: Callable[[], None]
    ) -> list[list[int]]:
        sampling = Sampling(temperature=self._config.temperature, top_k=self._config.top_k)
        generators = [torch.Generator().manual_seed(sampling.seed) for _ in prompts]
        # What stands behind the tokens there are is not looked at: no position sees a later one.
        tokens_PT = torch.full((len(prompts), self._length), self._end_id, device=device)
        for row, prompt in enumerate(prompts):
            tokens_PT[row, : len(prompt)] = torch.tensor(prompt)
        rows = torch.arange(len(prompts), device=device)
        lengths = torch.tensor([len(prompt) for prompt in prompts], device=device)
        for number in range(self._config.max_tokens):
            each_pass()
            logits_PV = model(tokens_PT)[rows, lengths + number - 1].float().cpu()
            tokens_PT[rows, lengths + number] = choose(logits_PV, sampling, generators).to(device)
        return [
            row[len(prompt) : len(prompt) + self._config.max_tokens]
            for row, prompt in zip(tokens_PT.tolist(), prompts, strict=True)
        ]

    def _text(self, tokens: list[int]) -> str:
        end = tokens.index(self._end_id) if self._end_id in tokens else len(tokens)
        return str(self._tokenizer.decode(tokens[:end]))


def build_sampler(
    config: SamplesConfig, splits: Sequence[TokenSplit], *, context: int, vocab_size: int
) -> Sampler | None:
    """The sampler of a run whose training sets are `splits`; None where samples are off.

    UserError where no tokenizer is known, or where a prompt does not fit the model.
    """
    if not config.every_steps:
        return None
    beside_data: list[TokenizerInfo] = [split.tokenizer for split in splits if split.tokenizer and split.tokenizer.path]
    path = config.tokenizer or (beside_data[0].path if beside_data else None)
    if path is None:
        raise UserError(
            "evaluate.samples: no tokenizer lies beside the training data",
            expected="the tokenizer.json that the data was made with",
            fix="name it under evaluate.samples.tokenizer, or set evaluate.samples.every_steps: 0",
        )
    tokenizer = load_tokenizer(path)
    end_id = end_of_text_id(tokenizer) if config.tokenizer else beside_data[0].eos_id
    return Sampler(config, tokenizer, end_id, context=context, vocab_size=vocab_size)
