"""What all families' decoders promise: loss and logits agree, no look-ahead, recompute changes nothing but memory."""

from collections import Counter
from typing import Any

import pytest
import torch
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from trainer.errors import UserError
from trainer.model.config import GPT2Config, LlamaConfig, ModelSettings, NeoXConfig
from trainer.model.decoder import Decoder, Recompute
from trainer.model.init import initialise

SIZES = {"vocab_size": 97, "vocab_multiple": 64, "context": 32, "layers": 2, "width": 64, "heads": 4}
CONFIGS = {
    "gpt2": GPT2Config(**SIZES),
    "llama": LlamaConfig(**SIZES, kv_heads=2),
    "neox": NeoXConfig(**SIZES),
    "gpt2-rope-sequential-rms-no-bias": GPT2Config(**SIZES, positions="rope", norm="rmsnorm", bias=False, mlp="gelu"),
    "llama-learned-parallel-tied": LlamaConfig(**SIZES, positions="learned", residual="parallel", tied=True, bias=True),
}
each_config = pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS.keys())


def built(config: ModelSettings, recompute: Recompute = "none", **options: Any) -> Decoder:
    model = Decoder(config, recompute=recompute, **options)
    initialise(model, 1)
    return model


def batch() -> tuple[torch.Tensor, torch.Tensor]:
    rows = torch.randint(0, 97, (3, 25), generator=torch.Generator().manual_seed(0))
    return rows[:, :-1], rows[:, 1:]


@each_config
def test_loss_is_the_sum_of_the_logits_cross_entropy(config: ModelSettings) -> None:
    model = built(config, loss_chunk_tokens=10)
    tokens_BT, targets_BT = batch()
    logits_BTV = model(tokens_BT)
    assert logits_BTV.shape == (3, 24, 97)
    expected = F.cross_entropy(logits_BTV.flatten(0, 1), targets_BT.flatten(), reduction="sum")
    expected_gradients = torch.autograd.grad(expected, list(model.parameters()))
    loss = model(tokens_BT, targets_BT)
    torch.testing.assert_close(loss, expected)
    gradients = torch.autograd.grad(loss, list(model.parameters()))
    torch.testing.assert_close(gradients, expected_gradients, rtol=1e-4, atol=1e-4)


@each_config
def test_no_position_sees_a_later_one(config: ModelSettings) -> None:
    model = built(config)
    tokens_BT, _ = batch()
    changed_BT = tokens_BT.clone()
    changed_BT[:, 12:] = (changed_BT[:, 12:] + 1) % 97
    with torch.no_grad():
        before, after = model(tokens_BT), model(changed_BT)
    torch.testing.assert_close(before[:, :12], after[:, :12])
    assert not torch.allclose(before[:, 12:], after[:, 12:])


@each_config
def test_order_of_tokens_matters(config: ModelSettings) -> None:
    tokens_BT = torch.tensor([[5, 9, 7], [9, 5, 7]])
    with torch.no_grad():
        logits_BTV = built(config)(tokens_BT)
    assert not torch.allclose(logits_BTV[0, 2], logits_BTV[1, 2])


@pytest.mark.parametrize("recompute", ["selective", "full"])
@pytest.mark.parametrize("dropout", [0.0, 0.2])
@each_config
def test_recompute_changes_no_bit(config: ModelSettings, dropout: float, recompute: Recompute) -> None:
    config = config.model_copy(update={"dropout": dropout})
    gradients = []
    for mode in ("none", recompute):
        model = built(config, recompute=mode)
        torch.manual_seed(7)
        loss = model(*batch())
        loss.backward()
        gradients.append([loss.detach(), *(parameter.grad for parameter in model.parameters())])
    assert all(torch.equal(plain, again) for plain, again in zip(*gradients, strict=True))


class CountedOperations(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.counts[func.overloadpacket.__name__] += 1
        return func(*args, **(kwargs or {}))


def operations(recompute: Recompute) -> Counter[str]:
    model = built(CONFIGS["gpt2"], recompute=recompute)
    with CountedOperations() as counted:
        model(*batch()).backward()
    return counted.counts


def test_recompute_repeats_what_its_name_says() -> None:
    none, selective, full = operations("none"), operations("selective"), operations("full")
    attention = "_scaled_dot_product_flash_attention_for_cpu"
    assert (none["gelu"], selective["gelu"], full["gelu"]) == (2, 4, 4)
    assert (none[attention], selective[attention], full[attention]) == (2, 2, 4)
    assert selective["addmm"] == none["addmm"]
    assert full["addmm"] > none["addmm"]


# Dynamo looks at .grad of every input; it hides the warning by a filter that an "error" filter before it overrides.
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
@pytest.mark.parametrize("recompute", ["none", "selective", "full"])
@each_config
def test_a_block_compiles_whole(config: ModelSettings, recompute: Recompute) -> None:
    model = built(config, recompute=recompute)
    expected = model(*batch())
    for block in model.blocks:
        block.compile(backend="aot_eager", fullgraph=True)
    loss = model(*batch())
    loss.backward()
    torch.testing.assert_close(loss, expected)
    torch.compiler.reset()


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
def test_all_blocks_share_one_graph() -> None:
    graphs = []

    def run_as_is(graph: torch.fx.GraphModule, _inputs: list[torch.Tensor]) -> Any:
        graphs.append(graph)
        return graph.forward

    model = built(LlamaConfig(**SIZES | {"layers": 10}))
    for block in model.blocks:
        block.compile(backend=run_as_is, fullgraph=True)
    model(*batch()).backward()
    torch.compiler.reset()
    # More graphs than torch.compile's limit of recompilations (8) would leave deep models uncompiled.
    assert len(graphs) == 1


def test_meta_model_gets_right_rotary_tables() -> None:
    with torch.device("meta"):
        model = Decoder(CONFIGS["llama"])
    model.to_empty(device="cpu")
    initialise(model, 1)
    with torch.no_grad():
        assert torch.equal(model(batch()[0]), built(CONFIGS["llama"])(batch()[0]))


def test_shapes_of_a_meta_forward() -> None:
    with torch.device("meta"):
        model = Decoder(CONFIGS["neox"])
        assert model(torch.zeros(2, 8, dtype=torch.long)).shape == (2, 8, 97)


def test_dropout_only_acts_in_training() -> None:
    model = built(GPT2Config(**SIZES, dropout=0.5))
    tokens_BT, _ = batch()
    assert not torch.equal(model(tokens_BT), model(tokens_BT))
    model.eval()
    assert torch.equal(model(tokens_BT), model(tokens_BT))


@each_config
def test_a_sequence_beyond_the_context_is_refused(config: ModelSettings) -> None:
    with pytest.raises(UserError, match="a sequence of 33 tokens"):
        built(config)(torch.zeros(1, 33, dtype=torch.long))
