"""Samples are what generation gives for the same prompt; what cannot work is refused before a run begins."""

from __future__ import annotations

import pytest
import torch
from tokenizers import Tokenizer

from trainer.data.tokenizer import train_bpe
from trainer.errors import UserError
from trainer.evaluate import samples
from trainer.evaluate.config import SamplesConfig
from trainer.evaluate.generate import TokenBatch
from trainer.evaluate.samples import Sampler, build_sampler
from trainer.evaluate.sampling import Sampling
from trainer.model.config import GPT2Config
from trainer.model.decoder import Decoder

VOCABULARY = 300
PROMPTS = ("the cat", "", "a much longer prompt than the others")


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train_bpe(["the cat sat on the mat, a longer text than that"] * 3, VOCABULARY)


@pytest.fixture(scope="module")
def model() -> Decoder:
    torch.manual_seed(1)
    config = GPT2Config(vocab_size=VOCABULARY, context=64, layers=2, width=16, heads=2, dropout=0.2)
    decoder = Decoder(config)
    for parameter in decoder.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return decoder


def sampler(tokenizer: Tokenizer, **changes: object) -> Sampler:
    config = SamplesConfig.model_validate({"every_steps": 1, "prompts": PROMPTS, "max_tokens": 12, **changes})
    return Sampler(config, tokenizer, end_id=0, context=64, vocab_size=VOCABULARY)


@pytest.mark.parametrize("temperature", [0.0, 0.9])
@pytest.mark.parametrize("logits_bytes", [512 * 2**20, 1])
def test_each_sample_is_what_generation_gives_for_its_prompt_alone(
    tokenizer: Tokenizer, model: Decoder, temperature: float, logits_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(samples, "_LOGITS_BYTES", logits_bytes)
    passes: list[None] = []
    model.train()
    random_state = torch.get_rng_state()
    found = sampler(tokenizer, temperature=temperature).texts(model, torch.device("cpu"), lambda: passes.append(None))
    assert torch.equal(torch.get_rng_state(), random_state)
    assert model.training
    assert len(passes) == (12 if logits_bytes > 1 else 36)
    model.eval()
    for prompt, text in found:
        ids = tokenizer.encode(prompt).ids or [0]
        tokens = TokenBatch(model, [ids], Sampling(temperature=temperature), [1], max_tokens=12)
        drawn = [tokens.step()[0] for _ in range(12)]
        assert text == tokenizer.decode(drawn[: drawn.index(0)] if 0 in drawn else drawn)
    assert [prompt for prompt, _ in found] == list(PROMPTS)


def test_prompts_that_do_not_fit_are_refused(tokenizer: Tokenizer) -> None:
    with pytest.raises(UserError, match=r"(?s)max_tokens 60.*model\.context = 64"):
        sampler(tokenizer, max_tokens=60)
    with pytest.raises(UserError, match=r"model\.vocab_size is 10"):
        Sampler(SamplesConfig(), tokenizer, end_id=0, context=99, vocab_size=10)


def test_a_run_needs_a_tokenizer_for_samples_only() -> None:
    assert build_sampler(SamplesConfig(), [], context=64, vocab_size=9) is None
    with pytest.raises(UserError, match="no tokenizer lies beside the training data"):
        build_sampler(SamplesConfig(every_steps=5), [], context=64, vocab_size=9)
