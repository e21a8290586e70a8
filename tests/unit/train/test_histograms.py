"""Histograms count every value once, whatever its size, and name few enough modules."""

from __future__ import annotations

import json

import torch

from trainer.model.config import GPT2Config
from trainer.model.decoder import Decoder
from trainer.train.histograms import Histograms


def decoder(layers: int = 2) -> Decoder:
    torch.manual_seed(0)
    model = Decoder(GPT2Config(vocab_size=64, context=8, layers=layers, width=16, heads=2))
    for parameter in model.parameters():
        parameter.grad = torch.randn_like(parameter) * 1e-4
    return model


def test_every_value_counts_once_in_the_bin_it_belongs_to() -> None:
    model = decoder()
    with torch.no_grad():
        model.norm.weight.copy_(torch.tensor([0.0, 1e-12, -1e-12, 0.3, -0.3, 1e9, -1e9, 5.0] * 2))
    histograms = Histograms(model, 2)
    assert histograms.record() is None
    histograms.take()
    record = histograms.record()
    assert record is not None
    assert list(record["parameters"]) == [
        "embed",
        "positions",
        *(f"blocks.{block}.{part}" for block in ("00", "01") for part in ("norms", "attention", "mlp")),
        "norm",
    ]
    assert record["gradients"].keys() == record["parameters"].keys()
    total = sum(sum(found["counts"]) for found in record["parameters"].values())
    assert total == sum(parameter.numel() for parameter in model.parameters())
    edges, found = record["edges"], record["parameters"]["norm"]
    bins = {
        (edges[found["first"] + i], edges[found["first"] + i + 1]): count
        for i, count in enumerate(found["counts"])
        if count
    }
    # The bias beside it is all zeros.
    (zero,) = [span for span in bins if span[0] < 0 < span[1]]
    assert bins.pop(zero) == 16 + 6
    for value in (0.3, -0.3, 5.0):
        (span,) = [span for span in bins if span[0] <= value < span[1]]
        assert bins.pop(span) == 2
        assert 8 / 7 <= max(map(abs, span)) / min(map(abs, span)) <= 5 / 4
    assert bins == {(edges[0], edges[1]): 2, (edges[-2], edges[-1]): 2}


def test_the_counts_are_those_of_numbers_sorted_one_by_one() -> None:
    model = decoder()
    histograms = Histograms(model, 2)
    histograms.take()
    record = histograms.record()
    assert record is not None
    gradients = torch.cat([parameter.grad.flatten() for parameter in model.blocks[1].mlp.parameters()])
    found = record["gradients"]["blocks.01.mlp"]
    for i, count in enumerate(found["counts"]):
        left, right = record["edges"][found["first"] + i], record["edges"][found["first"] + i + 1]
        assert count == int(((gradients >= left) & (gradients < right)).sum())


def test_a_deep_model_has_a_bounded_line() -> None:
    model = decoder(layers=100)
    histograms = Histograms(model, 100)
    histograms.take()
    record = histograms.record()
    assert record is not None
    blocks = sorted({int(name.split(".")[1]) for name in record["parameters"] if name.startswith("blocks")})
    assert len(blocks) == 16
    assert (blocks[0], blocks[-1]) == (0, 99)
    assert len(json.dumps(record)) < 100_000
