"""Families' defaults, derived sizes and the rules between them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from trainer.model.config import GPT2Config, LlamaConfig, ModelConfig, NeoXConfig
from trainer.settings import settings_sha256

parse = TypeAdapter(ModelConfig).validate_python


def test_family_picks_the_class_and_its_defaults() -> None:
    assert parse({"family": "gpt2"}) == GPT2Config()
    assert parse({"family": "llama"}) == LlamaConfig()
    assert parse({"family": "neox"}) == NeoXConfig()
    assert (GPT2Config().positions, GPT2Config().tied) == ("learned", True)
    assert (LlamaConfig().norm, LlamaConfig().mlp, LlamaConfig().bias) == ("rmsnorm", "swiglu", False)
    assert (NeoXConfig().residual, NeoXConfig().rope_width) == ("parallel", 32)


def test_widths_and_kv_heads_follow_when_left_out() -> None:
    assert GPT2Config(width=96, heads=6).ffn_width == 384
    assert GPT2Config(width=96, heads=6).kv_heads == 6
    assert LlamaConfig(width=2304).ffn_width == 6144
    assert LlamaConfig(width=768, heads=12).ffn_width == 2048
    assert LlamaConfig(width=96, heads=6, ffn_width=100, kv_heads=2).ffn_width == 100


def test_a_derived_value_hashes_like_the_same_value_written_out() -> None:
    assert settings_sha256(GPT2Config(width=96)) == settings_sha256(GPT2Config(width=96, ffn_width=384))


def test_a_family_may_change_one_choice() -> None:
    config = parse({"family": "gpt2", "positions": "rope"})
    assert config.rope_width == config.head_width == 64


def test_heads_that_do_not_divide_width_name_both_and_the_near_divisors() -> None:
    with pytest.raises(
        ValidationError, match=r"width 2432 is not divisible by heads 18; nearest that divide: 16 or 19"
    ):
        GPT2Config(width=2432, heads=18)


def test_kv_heads_have_to_divide_heads() -> None:
    with pytest.raises(ValidationError, match=r"heads 12 is not divisible by kv_heads 5; nearest: 4 or 6"):
        LlamaConfig(width=96, heads=12, kv_heads=5)


def test_an_odd_rotated_width_is_refused() -> None:
    with pytest.raises(ValidationError, match=r"rope_fraction 0\.25 of a head of 12 features is 3"):
        NeoXConfig(width=48, heads=4)


def test_unknown_keys_are_refused() -> None:
    with pytest.raises(ValidationError, match="n_layer"):
        parse({"family": "gpt2", "n_layer": 12})


@given(vocab_size=st.integers(1, 10**6), multiple=st.integers(1, 1024))
def test_padding_is_the_next_multiple(vocab_size: int, multiple: int) -> None:
    padded = GPT2Config(vocab_size=vocab_size, vocab_multiple=multiple).padded_vocab_size
    assert padded % multiple == 0
    assert vocab_size <= padded < vocab_size + multiple


@pytest.mark.parametrize("family", [GPT2Config, LlamaConfig, NeoXConfig])
def test_every_field_has_a_description(family: type[GPT2Config]) -> None:
    undescribed = [name for name, field in family.model_fields.items() if not field.description]
    assert undescribed == ["family"]
