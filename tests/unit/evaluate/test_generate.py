"""Generation: the tokens of Transformers' `generate`, rows that do not know each other, and where texts end."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from trainer.data.tokenizer import train_bpe
from trainer.evaluate import generate as module
from trainer.evaluate.generate import Piece, TokenBatch, complete, encode_prompt, generate, in_order
from trainer.evaluate.pretrained import Pretrained, load_pretrained
from trainer.evaluate.sampling import Sampling
from trainer.model.config import GPT2Config, LlamaConfig, ModelConfig, NeoXConfig
from trainer.model.decoder import Decoder
from trainer.model.hf import export_hf

TEXT = (Decoder.__doc__ or "") * 3
TOKENIZER = train_bpe([TEXT], 300)
END = 0
SIZES = {"vocab_size": 300, "context": 64, "layers": 2, "width": 32, "heads": 4}
CONFIGS: dict[str, ModelConfig] = {
    "gpt2": GPT2Config(**SIZES),
    "llama": LlamaConfig(**SIZES, kv_heads=2),
    "neox": NeoXConfig(**SIZES, rope_fraction=0.5),
}
PROMPTS = ("A GPT-style language model", "with", "the order of preference on CUDA; with a", "no position")


def random_model(config: ModelConfig) -> Decoder:
    """Weights wide enough that the most likely token is far ahead of the next."""
    model = Decoder(config)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            centre = 1.0 if parameter.dim() == 1 and name.endswith("weight") else 0.0
            parameter.normal_(centre, 0.3, generator=generator)
    return model


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A Hugging Face folder of each family."""
    folder = tmp_path_factory.mktemp("models")
    TOKENIZER.save(str(folder / "tokenizer.json"))

    def make(family: str) -> Path:
        if not (folder / family).exists():
            model = random_model(CONFIGS[family])
            state = {name: value.detach() for name, value in model.named_parameters()}
            export_hf(state, CONFIGS[family], folder / family, tokenizer_file=folder / "tokenizer.json", eos_id=END)
        return folder / family

    return make


@pytest.fixture
def pretrained(folders: Callable[[str], Path]) -> Pretrained:
    return load_pretrained(str(folders("gpt2")))


@pytest.mark.parametrize("penalty", [1.0, 1.3])
@pytest.mark.parametrize("family", CONFIGS)
def test_greedy_tokens_are_those_of_transformers(family: str, penalty: float, folders: Callable[[str], Path]) -> None:
    folder = folders(family)
    pretrained = load_pretrained(str(folder))
    theirs = AutoModelForCausalLM.from_pretrained(folder).eval()
    prompts = [encode_prompt(pretrained, prompt, 30) for prompt in PROMPTS]
    tokens = TokenBatch(
        pretrained.model, prompts, Sampling(temperature=0, repetition_penalty=penalty), [1] * 4, max_tokens=30
    )
    ours = list(zip(*(tokens.step() for _ in range(30)), strict=True))
    for prompt, found in zip(prompts, ours, strict=True):
        (whole,) = theirs.generate(
            torch.tensor([prompt]),
            attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
            max_new_tokens=30,
            do_sample=False,
            repetition_penalty=penalty,
            pad_token_id=END,
        ).tolist()
        expected = whole[len(prompt) :]
        assert list(found[: len(expected)]) == expected
        assert len(expected) == 30 or expected[-1] == END


@pytest.mark.parametrize("sampling", [Sampling(max_tokens=20), Sampling(max_tokens=20, top_p=0.7, temperature=1.5)])
def test_a_text_is_the_same_whatever_stands_beside_it(pretrained: Pretrained, sampling: Sampling) -> None:
    together = complete(pretrained, PROMPTS, sampling)
    assert together == [complete(pretrained, [prompt], sampling)[0] for prompt in PROMPTS]
    assert len({completion.text for completion in together}) == 4


def test_prompts_of_a_batch_are_bounded_by_memory(pretrained: Pretrained, monkeypatch: pytest.MonkeyPatch) -> None:
    sampling = Sampling(max_tokens=8)
    expected = complete(pretrained, PROMPTS, sampling)
    sizes = []

    class Batch(TokenBatch):
        def __init__(self, model: Decoder, prompts: list[list[int]], *rest: object, **options: object) -> None:
            sizes.append(len(prompts))
            super().__init__(model, prompts, *rest, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "TokenBatch", Batch)
    # Keys and values of a column are 2 layers * 2 * 32 features * 4 bytes.
    monkeypatch.setattr(module, "_CACHE_BYTES", 512 * 2 * (30 + 8))
    assert complete(pretrained, PROMPTS, sampling) == expected
    assert sum(sizes) == 4
    assert 1 < len(sizes) < 4
    monkeypatch.setattr(module, "_CACHE_BYTES", 1)
    assert complete(pretrained, PROMPTS, sampling) == expected
    assert sizes[-4:] == [1, 1, 1, 1]


def test_texts_end_with_a_token_or_a_string_or_at_their_length(pretrained: Pretrained) -> None:
    (whole,) = complete(pretrained, ["with"], Sampling(max_tokens=20, temperature=0))
    assert (whole.finish_reason, whole.completion_tokens) == ("length", 20)
    prompt = encode_prompt(pretrained, "with", 20)
    tokens = TokenBatch(pretrained.model, [prompt], Sampling(temperature=0), [1], max_tokens=20)
    ids = [tokens.step()[0] for _ in range(20)]
    assert TOKENIZER.decode(prompt + ids) == "with" + whole.text

    stop = whole.text[5:8]
    (cut,) = complete(pretrained, ["with"], Sampling(max_tokens=20, temperature=0, stop=(stop,)))
    assert cut.text == whole.text[: whole.text.index(stop)]
    assert cut.finish_reason == "stop"

    end = next(token for token in ids if ids.index(token) > 2)
    pieces = list(generate(pretrained, [prompt], Sampling(max_tokens=20, temperature=0), end_ids={end}))
    assert len(pieces) == ids.index(end) + 1
    assert "with" + "".join(piece.text for piece in pieces) == TOKENIZER.decode(prompt + ids[: ids.index(end)])
    assert [piece.finish for piece in pieces] == [None] * ids.index(end) + ["stop"]


def test_the_end_of_text_token_ends_a_text_and_is_no_part_of_it(pretrained: Pretrained) -> None:
    with torch.no_grad():
        # Its logit is the product with the last hidden state, which the final norm's bias makes the largest.
        pretrained.model.norm.bias.copy_(pretrained.model.embed.weight[END] * 100)
    (found,) = complete(pretrained, ["with"], Sampling(temperature=0))
    assert (found.text, found.finish_reason, found.completion_tokens) == ("", "stop", 1)


def test_an_empty_prompt_is_the_start_of_a_document(pretrained: Pretrained) -> None:
    assert encode_prompt(pretrained, "", 1) == [END]
    assert complete(pretrained, [""], Sampling(max_tokens=3, temperature=0))[0].completion_tokens == 3


def test_pieces_in_order_come_as_early_as_they_can() -> None:
    given = [Piece(0, "a"), Piece(1, "x"), Piece(2, "o", "stop"), Piece(0, "b", "stop"), Piece(1, "y")]
    given.append(Piece(1, "z", "length"))
    taken = []

    def source() -> object:
        for piece in given:
            taken.append(piece)
            yield piece

    shown = [(piece.row, piece.text, len(taken)) for piece in in_order(source())]  # type: ignore[arg-type]
    assert shown == [(0, "a", 1), (0, "b", 4), (1, "x", 4), (1, "y", 5), (1, "z", 6), (2, "o", 6)]
