"""Export to and import from Hugging Face folders, with Transformers as the oracle."""

import json
import weakref
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from trainer.errors import UserError
from trainer.model.config import GPT2Config, LlamaConfig, ModelConfig, NeoXConfig
from trainer.model.decoder import Decoder
from trainer.model.hf import export_hf, import_hf
from trainer.model.init import initialise

TOLERANCE = 1e-4
SIZES = {"vocab_size": 211, "context": 48, "layers": 3, "width": 64, "heads": 4}
OURS: dict[str, ModelConfig] = {
    "gpt2": GPT2Config(**SIZES),
    "gpt2-padded": GPT2Config(**SIZES, vocab_multiple=64),
    "gpt2-untied-exact-gelu": GPT2Config(**SIZES, tied=False, mlp="gelu"),
    "llama": LlamaConfig(**SIZES),
    "llama-grouped": LlamaConfig(**SIZES, kv_heads=2, norm_eps=1e-6, rope_theta=500000.0),
    "llama-tied-bias": LlamaConfig(**SIZES, tied=True, bias=True),
    "neox": NeoXConfig(**SIZES),
    "neox-sequential-full-rope": NeoXConfig(**SIZES, residual="sequential", rope_fraction=1.0, mlp="gelu_tanh"),
    "neox-tied-padded": NeoXConfig(**SIZES, tied=True, vocab_multiple=64),
}
GPT2 = {"vocab_size": 211, "n_positions": 48, "n_layer": 3, "n_embd": 64, "n_head": 4, "bos_token_id": 0}
OTHERS = {
    "vocab_size": 211,
    "max_position_embeddings": 48,
    "num_hidden_layers": 3,
    "hidden_size": 64,
    "num_attention_heads": 4,
    "intermediate_size": 96,
    "bos_token_id": 0,
}
THEIRS = {
    "gpt2": transformers.GPT2Config(**GPT2, eos_token_id=0),
    "gpt2-untied": transformers.GPT2Config(**GPT2, eos_token_id=0, tie_word_embeddings=False, n_inner=80),
    "llama": transformers.LlamaConfig(**OTHERS),
    "llama-grouped-tied": transformers.LlamaConfig(**OTHERS, num_key_value_heads=2, tie_word_embeddings=True),
    "llama-bias": transformers.LlamaConfig(**OTHERS, attention_bias=True, mlp_bias=True),
    "neox": transformers.GPTNeoXConfig(**OTHERS),
    "neox-sequential": transformers.GPTNeoXConfig(**OTHERS, use_parallel_residual=False, hidden_act="gelu_new"),
}


def tokens() -> torch.Tensor:
    return torch.randint(0, 211, (2, 48), generator=torch.Generator().manual_seed(0))


def random_model(config: ModelConfig) -> Decoder:
    """Values wide enough that every part shows in the logits: biases and norms too."""
    model = Decoder(config)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            values = torch.empty(parameter.shape).normal_(0.0, 0.1, generator=generator)
            parameter.copy_(values + 1 if "norm.weight" in name else values)
    return model


def state_of(model: Decoder) -> dict[str, torch.Tensor]:
    return {name: parameter.detach() for name, parameter in model.named_parameters()}


def logits_difference(model: Decoder, other: Any) -> float:
    with torch.no_grad():
        return (model(tokens()) - other.eval()(tokens()).logits).abs().max().item()


@pytest.mark.parametrize("name", OURS)
def test_exported_logits_equal_transformers(name: str, tmp_path: Path) -> None:
    model = random_model(OURS[name])
    export_hf(state_of(model), OURS[name], tmp_path / "out", eos_id=0)
    other = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "out", dtype="auto")
    difference = logits_difference(model, other)
    print(f"{name}: max |difference| {difference:.1e}")
    assert other.dtype == torch.float32
    assert difference <= TOLERANCE


@pytest.mark.parametrize("name", THEIRS)
def test_imported_logits_equal_transformers(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    other = transformers.AutoModelForCausalLM.from_config(THEIRS[name])
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    other.save_pretrained(tmp_path / "in")
    config, state = import_hf(tmp_path / "in")
    model = Decoder(config)
    model.load_state_dict(state)
    difference = logits_difference(model, other)
    print(f"{name}: max |difference| {difference:.1e}")
    assert difference <= TOLERANCE


@pytest.mark.parametrize("name", OURS)
def test_a_round_trip_changes_no_bit(name: str, tmp_path: Path) -> None:
    model = random_model(OURS[name])
    export_hf(state_of(model), OURS[name], tmp_path / "out")
    config, state = import_hf(tmp_path / "out")
    assert config == OURS[name].model_copy(update={"vocab_multiple": 1})
    assert state.keys() == state_of(model).keys()
    for key, value in state_of(model).items():
        assert torch.equal(state[key], value[: len(state[key])]), key


def test_sharded_export_loads_whole(tmp_path: Path) -> None:
    model = random_model(OURS["llama"])
    export_hf(state_of(model), OURS["llama"], tmp_path / "out", max_shard_bytes=100_000)
    files = sorted(file.name for file in (tmp_path / "out").glob("*.safetensors"))
    assert len(files) > 2
    assert files[0] == f"model-00001-of-{len(files):05d}.safetensors"
    index = json.loads((tmp_path / "out" / "model.safetensors.index.json").read_text())
    assert index["metadata"]["total_size"] == sum(p.nbytes for p in model.parameters())
    assert logits_difference(model, transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "out")) <= TOLERANCE
    assert all(torch.equal(value, state_of(model)[key]) for key, value in import_hf(tmp_path / "out")[1].items())


def test_export_in_bf16(tmp_path: Path) -> None:
    model = random_model(OURS["neox"])
    export_hf(state_of(model), OURS["neox"], tmp_path / "out", dtype=torch.bfloat16)
    assert {tensor.dtype for tensor in load_file(tmp_path / "out" / "model.safetensors").values()} == {torch.bfloat16}
    assert transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "out", dtype="auto").dtype == torch.bfloat16


def test_gpt2_folder_without_the_base_prefix(tmp_path: Path) -> None:
    export_hf(state_of(random_model(OURS["gpt2"])), OURS["gpt2"], tmp_path / "out")
    weights = load_file(tmp_path / "out" / "model.safetensors")
    old = {name.removeprefix("transformer."): tensor for name, tensor in weights.items()}
    old["h.0.attn.bias"] = torch.ones(1, 1, 48, 48)
    save_file(old, tmp_path / "out" / "model.safetensors")
    _, state = import_hf(tmp_path / "out")
    assert torch.equal(state["embed.weight"], weights["transformer.wte.weight"])


@pytest.fixture(scope="module")
def tokenizer_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    text = [json.__doc__ or ""] * 3
    tokenizer.train_from_iterator(
        text, trainers.BpeTrainer(vocab_size=211, special_tokens=["<|endoftext|>"], show_progress=False)
    )
    file = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    tokenizer.save(str(file))
    return file


@pytest.mark.parametrize("name", ["gpt2", "llama", "neox"])
def test_tokenizer_goes_along(name: str, tmp_path: Path, tokenizer_file: Path) -> None:
    export_hf(state_of(random_model(OURS[name])), OURS[name], tmp_path / "out", tokenizer_file=tokenizer_file, eos_id=0)
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "out")
    text = "Encoding basic Python object hierarchies:: 'e\u0301'\n\n    >>> import json"
    ids = Tokenizer.from_file(str(tokenizer_file)).encode(text).ids
    assert tokenizer(text)["input_ids"] == ids
    assert tokenizer.decode(ids) == Tokenizer.from_file(str(tokenizer_file)).decode(ids)
    assert (tokenizer.eos_token, tokenizer.eos_token_id, tokenizer.model_max_length) == ("<|endoftext|>", 0, 48)
    model = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    assert model.generation_config.eos_token_id == 0
    assert model.generate(torch.tensor([[1, 2]]), max_new_tokens=3, min_new_tokens=3).shape == (1, 5)


@pytest.mark.parametrize(
    ("config", "named"),
    [
        (GPT2Config(**SIZES, positions="rope"), "model.positions: rope"),
        (GPT2Config(**SIZES, bias=False), "model.bias: False"),
        (GPT2Config(**SIZES, kv_heads=2), "model.kv_heads: 2"),
        (LlamaConfig(**SIZES, residual="parallel"), "model.residual: parallel"),
        (LlamaConfig(**SIZES, rope_fraction=0.5), "model.rope_fraction: 0.5"),
        (LlamaConfig(**SIZES, mlp="gelu"), "model.mlp: gelu"),
        (NeoXConfig(**SIZES, norm="rmsnorm"), "model.norm: rmsnorm"),
    ],
)
def test_a_choice_the_architecture_lacks_is_named(config: ModelConfig, named: str, tmp_path: Path) -> None:
    with pytest.raises(UserError) as refused:
        export_hf(state_of(Decoder(config)), config, tmp_path / "out")
    assert named in str(refused.value)
    assert not list(tmp_path.iterdir())


def test_a_state_of_another_model_is_refused(tmp_path: Path) -> None:
    state = state_of(random_model(OURS["gpt2"]))
    with pytest.raises(UserError, match="lacks"):
        export_hf(state, OURS["llama"], tmp_path / "out")
    wider = GPT2Config(**SIZES | {"width": 128})
    with pytest.raises(UserError, match=r"embed.weight has shape \[211, 64\]"):
        export_hf(state, wider, tmp_path / "out")


def test_an_eos_the_tokenizer_lacks_is_refused(tmp_path: Path, tokenizer_file: Path) -> None:
    state = state_of(random_model(OURS["gpt2"]))
    with pytest.raises(UserError, match="no token 9999"):
        export_hf(state, OURS["gpt2"], tmp_path / "out", tokenizer_file=tokenizer_file, eos_id=9999)
    with pytest.raises(UserError, match=r"none\.json"):
        export_hf(state, OURS["gpt2"], tmp_path / "out", tokenizer_file=tmp_path / "none.json", eos_id=0)


def test_a_larger_tokenizer_is_refused(tmp_path: Path, tokenizer_file: Path) -> None:
    config = GPT2Config(**SIZES | {"vocab_size": 100})
    with pytest.raises(UserError, match=r"ids up to \d+, model\.vocab_size is 100"):
        export_hf(state_of(random_model(config)), config, tmp_path / "out", tokenizer_file=tokenizer_file)


def test_a_tokenizer_with_holes_is_measured_by_its_largest_id(tmp_path: Path) -> None:
    holed = Tokenizer(models.WordLevel({"a": 0, "b": 999}, unk_token="a"))
    holed.save(str(tmp_path / "tokenizer.json"))
    config = OURS["gpt2"]
    with pytest.raises(UserError, match="ids up to 999"):
        export_hf(state_of(random_model(config)), config, tmp_path / "out", tokenizer_file=tmp_path / "tokenizer.json")


def changed_import(folder: Path, name: str, **changes: object) -> None:
    export_hf(state_of(random_model(OURS[name])), OURS[name], folder)
    file = folder / "config.json"
    values = json.loads(file.read_text()) | changes
    file.write_text(json.dumps({key: value for key, value in values.items() if value != "removed"}))
    import_hf(folder)


@pytest.mark.parametrize(
    ("name", "changes", "named"),
    [
        ("gpt2", {"architectures": ["T5Model"]}, "T5Model"),
        ("gpt2", {"n_embd": "removed"}, "lacks n_embd"),
        ("gpt2", {"activation_function": "relu"}, "activation_function: relu"),
        ("gpt2", {"scale_attn_by_inverse_layer_idx": True}, "scale_attn_by_inverse_layer_idx: True"),
        ("gpt2", {"n_layer": 4}, "no weight transformer.h.3.ln_1.weight"),
        ("gpt2", {"n_layer": 2}, "does not use: transformer.h.2"),
        ("gpt2", {"n_head": 5}, "not divisible by heads 5"),
        ("gpt2", {"n_inner": 128}, r"c_fc.weight has shape \[256, 64\]"),
        ("llama", {"rope_parameters": {"rope_type": "llama3", "rope_theta": 1e4}}, "rope_type: llama3"),
        ("llama", {"head_dim": 32}, "head_dim: 32"),
        ("llama", {"attention_bias": True}, "attention_bias: True"),
        ("neox", {"attention_bias": False}, "attention_bias: False"),
    ],
)
def test_a_folder_that_cannot_be_computed_is_refused(
    name: str, changes: dict[str, object], named: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=named):
        changed_import(tmp_path / "in", name, **changes)


def test_keys_of_older_transformers_are_read(tmp_path: Path) -> None:
    export_hf(state_of(random_model(OURS["neox"])), OURS["neox"], tmp_path / "in")
    file = tmp_path / "in" / "config.json"
    values = json.loads(file.read_text())
    del values["rope_parameters"]
    file.write_text(json.dumps(values | {"rotary_pct": 0.5, "rotary_emb_base": 5000}))
    config, _ = import_hf(tmp_path / "in")
    assert (config.rope_fraction, config.rope_theta) == (0.5, 5000.0)


def test_missing_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no .*config\.json"):
        import_hf(tmp_path)
    export_hf(state_of(random_model(OURS["gpt2"])), OURS["gpt2"], tmp_path / "in")
    weights = tmp_path / "in" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(UserError, match=r"model\.safetensors"):
        import_hf(tmp_path / "in")
    weights.unlink()
    with pytest.raises(UserError, match=r"model\.safetensors"):
        import_hf(tmp_path / "in")


@pytest.mark.parametrize("name", ["config.json", "model.safetensors.index.json"])
@pytest.mark.parametrize("content", ["", "{", "[]"])
def test_a_file_that_is_no_json_object_is_named(tmp_path: Path, name: str, content: str) -> None:
    export_hf(state_of(random_model(OURS["gpt2"])), OURS["gpt2"], tmp_path / "in")
    (tmp_path / "in" / name).write_text(content)
    with pytest.raises(UserError, match=name):
        import_hf(tmp_path / "in")


@pytest.mark.parametrize("name", ["../elsewhere.safetensors", "/etc/x.safetensors", 7])
def test_an_index_cannot_name_files_elsewhere(tmp_path: Path, name: object) -> None:
    export_hf(state_of(random_model(OURS["gpt2"])), OURS["gpt2"], tmp_path / "in")
    (tmp_path / "in" / "model.safetensors").rename(tmp_path / "elsewhere.safetensors")
    index = {"weight_map": {"transformer.wte.weight": name}}
    (tmp_path / "in" / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(UserError, match="names"):
        import_hf(tmp_path / "in")


def test_initialised_models_agree_too(tmp_path: Path) -> None:
    model = Decoder(OURS["neox"])
    initialise(model, 1)
    export_hf(state_of(model), OURS["neox"], tmp_path / "out")
    assert logits_difference(model, transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "out")) <= 1e-5


class ReadOnce(Mapping[str, torch.Tensor]):
    """Gives copies, and notes how many of them are still held when the next is asked for."""

    def __init__(self, state: dict[str, torch.Tensor]) -> None:
        self.state = state
        self.held: list[int] = []
        self.given: list[weakref.ref[torch.Tensor]] = []

    def __getitem__(self, name: str) -> torch.Tensor:
        self.held.append(sum(ref() is not None for ref in self.given))
        tensor = self.state[name].clone()
        self.given.append(weakref.ref(tensor))
        return tensor

    def __iter__(self) -> Iterator[str]:
        return iter(self.state)

    def __len__(self) -> int:
        return len(self.state)


def test_a_tensor_is_let_go_before_the_next_is_read(tmp_path: Path) -> None:
    state = ReadOnce(state_of(random_model(OURS["llama"])))
    export_hf(state, OURS["llama"], tmp_path / "out")
    assert len(state.given) == len(state)
    assert max(state.held) == 0
