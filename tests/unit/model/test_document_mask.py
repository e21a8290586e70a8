"""With document masks, documents that share a sequence know nothing of each other."""

import pytest
import torch

from trainer.model.attention import document_mask, number_documents
from trainer.model.config import GPT2Config, LlamaConfig, ModelSettings, NeoXConfig
from trainer.model.decoder import Decoder, Recompute
from trainer.model.init import initialise

END = 96
SIZES = {"vocab_size": 97, "context": 32, "layers": 2, "width": 64, "heads": 4}
FAMILIES = {"gpt2": GPT2Config(**SIZES), "llama": LlamaConfig(**SIZES, kv_heads=2), "neox": NeoXConfig(**SIZES)}


def built(config: ModelSettings, *, masked: bool = True, recompute: Recompute = "none") -> Decoder:
    model = Decoder(config, recompute=recompute, document_end_id=END if masked else None)
    initialise(model, 1)
    return model


def document(seed: int, length: int) -> torch.Tensor:
    words = torch.randint(0, END, (length - 1,), generator=torch.Generator().manual_seed(seed))
    return torch.cat([words, torch.tensor([END])])


def test_the_token_that_ends_a_document_belongs_to_it() -> None:
    mask = document_mask(number_documents(torch.tensor([[5, END, END, 7, 8]]), END))
    assert mask[0, 0].int().tolist() == [
        [1, 0, 0, 0, 0],
        [1, 1, 0, 0, 0],
        [0, 0, 1, 0, 0],
        [0, 0, 0, 1, 0],
        [0, 0, 0, 1, 1],
    ]


@pytest.mark.parametrize("family", ["llama", "neox"])
def test_a_packed_document_gives_the_logits_that_it_gives_alone(family: str) -> None:
    model = built(FAMILIES[family])
    documents = [document(1, 9), document(2, 5), document(3, 12)]
    with torch.no_grad():
        packed = model(torch.cat(documents)[None])
        alone = torch.cat([model(each[None]) for each in documents], dim=1)
    # Rotary positions tell distances only, so where a document begins does not matter.
    torch.testing.assert_close(packed, alone, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("recompute", ["none", "selective", "full"])
@pytest.mark.parametrize("family", FAMILIES)
def test_the_loss_of_a_document_does_not_reach_back_into_the_one_before(family: str, recompute: Recompute) -> None:
    model = built(FAMILIES[family], recompute=recompute)
    rows = torch.cat([document(1, 9), document(2, 9)])[None]
    tokens, targets = rows[:, :-1], rows[:, 1:].clone()
    targets[:, :9] = -100  # only the second document counts, from its second token on
    model(tokens, targets).backward()
    others = rows[0, :8].unique()
    own = rows[0, 9:].unique()
    unseen = others[~torch.isin(others, own)]
    gradient = model.embed.weight.grad
    assert gradient is not None
    if model.head is None:  # a tied head has gradients of its own in every row
        hidden = model.hidden_states(tokens)[0]
        (by_input,) = torch.autograd.grad(hidden[0, 9:].sum(), model.embed.weight)
        gradient = by_input
    assert len(unseen) > 0
    assert not gradient[unseen].any()
    assert gradient[own[own != END]].any()


def test_without_a_mask_it_does() -> None:
    model = built(FAMILIES["llama"], masked=False)
    rows = torch.cat([document(1, 9), document(2, 9)])[None]
    (gradient,) = torch.autograd.grad(model.hidden_states(rows)[0][0, 9:].sum(), model.embed.weight)
    assert gradient[rows[0, :8].unique()].any()
