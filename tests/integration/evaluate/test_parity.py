"""Losses and HellaSwag's scores of our path against Transformers', for the same weights in fp32."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from tests.integration.train.conftest import Warm
from tests.integration.training import Training
from trainer.data.config import CacheConfig, Source
from trainer.data.dataset import open_tokens
from trainer.data.loader import validation_batches
from trainer.data.tokenizer import load_tokenizer
from trainer.evaluate.evaluation import evaluate_model
from trainer.evaluate.export import ExportRequest, run_export
from trainer.evaluate.hellaswag import encode_items, read_items, score_rows
from trainer.evaluate.pretrained import load_pretrained
from trainer.evaluate.result import Request
from trainer.model.config import GPT2Config, LlamaConfig, ModelConfig, NeoXConfig
from trainer.model.decoder import Decoder
from trainer.model.hf import export_hf
from trainer.model.init import initialise

BAR = 1e-4
SIZES = {"vocab_size": 512, "context": 128, "layers": 2, "width": 48, "heads": 2}
RANDOM: dict[str, ModelConfig] = {
    "gpt2": GPT2Config(**SIZES, vocab_multiple=100),
    "llama": LlamaConfig(**SIZES),
    "neox": NeoXConfig(**SIZES),
}


@pytest.fixture(params=["trained", *RANDOM])
def folder(request: pytest.FixtureRequest, trained: Training, dataset: Path, tmp_path: Path) -> Path:
    """A Hugging Face folder: of the trained model, or of a random one with wide weights."""
    folder = tmp_path / "model"
    if request.param == "trained":
        run_export(ExportRequest(str(trained.run), folder))
        return folder
    config = RANDOM[request.param]
    model = Decoder(config)
    initialise(model, 1)
    state = {
        name: value.detach() * 3 if value.dim() == 2 else value.detach() for name, value in model.named_parameters()
    }
    state["embed.weight"] = state["embed.weight"][:512].new_zeros(config.padded_vocab_size, 48).normal_(0, 0.3)
    state["embed.weight"][512:] = 0
    export_hf(state, config, folder, tokenizer_file=dataset / "tokenizer.json", eos_id=0)
    return folder


def theirs(folder: Path) -> Any:
    import transformers

    transformers.utils.logging.disable_progress_bar()
    return transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


@torch.no_grad()
def test_perplexity_equals_that_of_transformers(folder: Path, dataset: Path) -> None:
    pretrained = load_pretrained(str(folder))
    request = Request(data=(str(dataset),), sequences=12, sequence_length=32)
    found = evaluate_model(pretrained, request, lambda *_: None)

    model = theirs(folder)
    split = open_tokens(Source(path=str(dataset)), split="validation", sequence_length=32, cache=CacheConfig())
    losses = [
        F.cross_entropy(model(rows[:, :-1]).logits.flatten(0, 1), rows[:, 1:].flatten(), reduction="none")
        for rows in map(torch.from_numpy, validation_batches([split], sequences=12, micro=5))
    ]
    expected = float(torch.cat(losses).double().mean())
    assert found.validation_loss == pytest.approx(expected, abs=BAR)
    assert found.perplexity == pytest.approx(math.exp(expected), rel=BAR)
    assert split.bytes_per_token is not None
    assert found.bits_per_byte == pytest.approx(expected / math.log(2) / split.bytes_per_token, abs=BAR)


@torch.no_grad()
def test_scores_of_endings_equal_those_of_transformers(folder: Path, items: Path, dataset: Path) -> None:
    pretrained = load_pretrained(str(folder))
    context = pretrained.config.context
    found = evaluate_model(pretrained, Request(hellaswag=str(items)), lambda *_: None).hellaswag
    assert found is not None

    tokenizer = load_tokenizer(dataset / "tokenizer.json")
    model = theirs(folder)
    right = right_by_mean = 0
    for item in read_items(str(items)):
        sums, means = [], []
        before = tokenizer.encode(item.ctx).ids
        for ending in item.endings:
            own = tokenizer.encode(" " + ending).ids
            ids = [*before, *own][-context - 1 :]
            log_probs = model(torch.tensor([ids[:-1]])).logits[0].double().log_softmax(-1)[-len(own) :]
            picked = log_probs[torch.arange(len(own)), torch.tensor(own)]
            sums.append(float(picked.sum()))
            means.append(float(picked.mean()))
        (whole,) = encode_items(tokenizer, [item], context=context, vocab_size=512)
        rows = [row.within(context) for row in whole]
        assert score_rows(pretrained.model, rows, 512) == pytest.approx(sums, abs=BAR)
        right += sums.index(max(sums)) == item.label
        right_by_mean += means.index(max(means)) == item.label
    assert (found.acc, found.acc_norm) == (right / 20, right_by_mean / 20)


def test_an_export_is_worth_what_its_checkpoint_is(
    trained: Training, warm: Warm, dataset: Path, tmp_path: Path
) -> None:
    output = tmp_path / "model"
    assert warm.command(trained, "checkpoints", "export", "runs/small", "--output", str(output)).code == 0
    options = ("--data", str(dataset), "--sequences", "16", "--sequence-length", "32", "--json")
    of_run, of_export = (
        json.loads(warm.command(trained, "eval", model, *options).text.splitlines()[-1])
        for model in ("runs/small", str(output))
    )
    assert of_export["validation_loss"] == pytest.approx(of_run["validation_loss"], abs=1e-9)
    assert of_export["bits_per_byte"] == pytest.approx(of_run["bits_per_byte"], abs=1e-9)
