"""Bits per byte and perplexity."""

from __future__ import annotations

import math

import pytest

from trainer.evaluate.loss import Evaluation, bits_per_byte


def test_bits_per_byte_against_its_definition() -> None:
    # 2 nats per token, 4 bytes per token: 0.5 nats per byte.
    assert bits_per_byte(2.0, 4.0) == pytest.approx(0.5 / math.log(2))
    assert bits_per_byte(2.0, None) is None


def test_perplexity_does_not_overflow() -> None:
    assert Evaluation(1.0, 1, None).perplexity == pytest.approx(math.e)
    assert Evaluation(1e6, 1, None).perplexity == math.inf
