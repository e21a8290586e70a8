"""The decoder of all three families: embedding, blocks, final norm, head and loss.

The trainer builds it under `torch.device("meta")`, compiles and shards its `blocks` one by one and the whole as root,
then calls `init.initialise`. Evaluation calls it without targets for logits, generation calls `extend`.

Shapes: B batch, T tokens, D width, V vocabulary, N = B * T.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import CheckpointPolicy, checkpoint, create_selective_checkpoint_contexts

from trainer.errors import UserError
from trainer.model.attention import (
    ATTENTION_BACKENDS,
    Attention,
    AttentionBackend,
    document_mask,
    number_documents,
    places_within,
)
from trainer.model.cache import KeyValueCache, LayerCache
from trainer.model.config import ModelSettings
from trainer.model.distillation import Lesson, distillation_loss
from trainer.model.loss import chunked_cross_entropy
from trainer.model.mlp import build_mlp
from trainer.model.norm import build_norm
from trainer.model.positions import Rope, RopeTable

Recompute = Literal["none", "selective", "full"]

_aten = torch.ops.aten
# What selective recompute keeps: the results of matrix products and attention, which cost the most to repeat.
_KEPT_OPERATIONS = frozenset(
    {
        _aten.mm.default,
        _aten.addmm.default,
        _aten._scaled_mm.default,
        _aten._scaled_dot_product_flash_attention.default,
        _aten._scaled_dot_product_flash_attention_for_cpu.default,
        _aten._scaled_dot_product_efficient_attention.default,
        _aten._scaled_dot_product_cudnn_attention.default,
    }
)


class Decoder(nn.Module):
    """A GPT-style language model.

    `recompute` says which activations of a block are computed again in the backward pass; `attention_backends` is the
    order of preference on CUDA; `loss_chunk_tokens` bounds how many tokens' logits exist at a time (None: chosen from
    the vocabulary size, see `loss`); with a `document_end_id` no position sees back beyond its own document, which that
    token ends.
    """

    def __init__(
        self,
        config: ModelSettings,
        *,
        recompute: Recompute = "none",
        attention_backends: Sequence[AttentionBackend] = ATTENTION_BACKENDS,
        loss_chunk_tokens: int | None = None,
        document_end_id: int | None = None,
    ) -> None:
        super().__init__()
        self.config = config
        self.document_end_id = document_end_id
        self.loss_chunk_tokens = loss_chunk_tokens
        self.embed = nn.Embedding(config.padded_vocab_size, config.width)
        if config.positions == "learned":
            self.positions: nn.Embedding | None = nn.Embedding(config.context, config.width)
            self.rope_table: RopeTable | None = None
        else:
            self.positions = None
            self.rope_table = RopeTable(config.context, config.rope_width, config.rope_theta)
        self.blocks = nn.ModuleList(
            Block(config, recompute=recompute, attention_backends=attention_backends) for _ in range(config.layers)
        )
        self.norm = build_norm(config)
        self.head = None if config.tied else nn.Linear(config.width, config.padded_vocab_size, bias=False)
        self.projections: nn.ModuleList | None = None

    def add_projections(self, number: int, width: int) -> None:
        """Learned maps of hidden states to a teacher's width, which only a lesson looks at; on the default device."""
        self.projections = nn.ModuleList(nn.Linear(self.config.width, width, bias=False) for _ in range(number))

    def forward(
        self,
        tokens_BT: Tensor,
        targets_BT: Tensor | None = None,
        documents_BT: Tensor | None = None,
        lesson: Lesson | None = None,
    ) -> Tensor:
        """Logits [B, T, vocab_size], or with targets the sum over tokens of the cross-entropy, in nats.

        Targets are the next tokens' ids; -100 marks a position that does not count. The sum is an fp32 scalar: the
        caller divides by the global number of targets. The loss is computed in here because FSDP2 keeps the embedding
        and the head whole only while this method and its backward run. Raises UserError for more than `context` tokens.
        With a `lesson` it is the sum of what that mixes (see `distillation_loss`).

        `documents_BT` numbers what is packed into each row, rising: each part gives what it gives alone, since none
        sees another and positions begin anew in each.
        """
        hidden_BTD, kept_BTD = self.hidden_states(tokens_BT, documents_BT, lesson.student_layers if lesson else ())
        if targets_BT is None:
            return self._logits(hidden_BTD)
        hidden_ND, targets_N = hidden_BTD.flatten(0, 1), targets_BT.flatten()
        chunk_tokens, vocab_size = self.loss_chunk_tokens, self.config.vocab_size
        if lesson is None:
            return chunked_cross_entropy(
                hidden_ND, self.head_weight, targets_N, chunk_tokens=chunk_tokens, vocab_size=vocab_size
            )
        return distillation_loss(
            hidden_ND,
            self.head_weight,
            targets_N,
            lesson,
            [kept.flatten(0, 1) for kept in kept_BTD],
            self.projections,
            chunk_tokens=chunk_tokens,
            vocab_size=vocab_size,
        )

    def extend(self, tokens_BT: Tensor, cache: KeyValueCache) -> Tensor:
        """Logits [B, vocab_size] of what comes after `tokens_BT`, which go on from those in `cache` and join them.

        For a whole model in evaluation mode: neither FSDP2 nor dropout is taken into account. Raises ValueError where
        the cache has no room.
        """
        length = tokens_BT.shape[1]
        if cache.used + length > cache.columns:
            raise ValueError(f"{cache.used} columns of {cache.columns} are used: no room for {length}")
        positions, mask_B1TS = cache.positions(length), cache.mask(tokens_BT)
        x_BTD: Tensor = self.embed(tokens_BT)
        if self.positions is not None:
            x_BTD = x_BTD + self.positions.weight[positions]
        rope = self.rope_table.at(positions, x_BTD.device) if self.rope_table is not None else None
        for block, layer in zip(self.blocks, cache.layers, strict=True):
            x_BTD = block(x_BTD, rope, mask_B1TS, layer)
        return self._logits(self.norm(x_BTD[:, -1]))

    @property
    def head_weight(self) -> Tensor:
        """[V, D], padding rows included."""
        return (self.embed if self.head is None else self.head).weight

    def _logits(self, hidden: Tensor) -> Tensor:
        return F.linear(hidden, self.head_weight)[..., : self.config.vocab_size]

    def hidden_states(
        self, tokens_BT: Tensor, documents_BT: Tensor | None = None, layers: Sequence[int] = ()
    ) -> tuple[Tensor, list[Tensor]]:
        """What the head reads, [B, T, D], and what came out of these blocks, counted from 1."""
        length = tokens_BT.shape[1]
        if length > self.config.context:
            raise UserError(
                f"a sequence of {length} tokens",
                expected=f"at most model.context = {self.config.context}",
                fix="shorten sequence_length, or train a model with a longer context",
            )
        x_BTD: Tensor = self.embed(tokens_BT)
        if self.positions is not None:
            places = slice(length) if documents_BT is None else places_within(documents_BT)
            x_BTD = x_BTD + self.positions.weight[places]
        if self.config.dropout > 0:
            x_BTD = F.dropout(x_BTD, self.config.dropout, self.training)
        rope = self.rope_table.at(slice(length), x_BTD.device) if self.rope_table is not None else None
        if documents_BT is None and self.document_end_id is not None:
            documents_BT = number_documents(tokens_BT, self.document_end_id)
        mask_B1TT = None if documents_BT is None else document_mask(documents_BT)
        after: dict[int, Tensor] = {}
        for number, block in enumerate(self.blocks, start=1):
            x_BTD = block(x_BTD, rope, mask_B1TT)
            if number in layers:
                after[number] = x_BTD
        return self.norm(x_BTD), [after[number] for number in layers]


class Block(nn.Module):
    """Attention and MLP around the residual stream: the unit that is compiled, sharded and recomputed."""

    def __init__(
        self, config: ModelSettings, *, recompute: Recompute, attention_backends: Sequence[AttentionBackend]
    ) -> None:
        super().__init__()
        self.recompute = recompute
        self.parallel = config.residual == "parallel"
        self.dropout = config.dropout
        self.draws_random = config.dropout > 0
        """Whether a forward pass draws random numbers, which a recomputation has to draw again; adapters may set it."""
        self.attention_norm = build_norm(config)
        self.attention = Attention(config, attention_backends)
        self.mlp_norm = build_norm(config)
        self.mlp = build_mlp(config)

    def forward(
        self,
        x_BTD: Tensor,
        rope: Rope | None = None,
        mask_B1TS: Tensor | None = None,
        cache: LayerCache | None = None,
    ) -> Tensor:
        """The stream behind this block. See `Attention.forward` for mask and cache."""
        if self.recompute == "none" or not torch.is_grad_enabled():
            return self._run(x_BTD, rope, mask_B1TS, cache)
        # In here and not around the block, so that compiling the block compiles the recomputation too.
        extra: dict[str, Any] = {}
        if self.recompute == "selective":
            extra["context_fn"] = partial(create_selective_checkpoint_contexts, _keep_or_recompute)
        result: Tensor = checkpoint(
            self._run, x_BTD, rope, mask_B1TS, cache, use_reentrant=False, preserve_rng_state=self.draws_random, **extra
        )
        return result

    def _run(self, x_BTD: Tensor, rope: Rope | None, mask_B1TS: Tensor | None, cache: LayerCache | None) -> Tensor:
        attended_BTD = self._drop(self.attention(self.attention_norm(x_BTD), rope, mask_B1TS, cache))
        if self.parallel:
            return x_BTD + attended_BTD + self._drop(self.mlp(self.mlp_norm(x_BTD)))
        x_BTD = x_BTD + attended_BTD
        return x_BTD + self._drop(self.mlp(self.mlp_norm(x_BTD)))

    def _drop(self, x_BTD: Tensor) -> Tensor:
        return F.dropout(x_BTD, self.dropout, self.training) if self.dropout > 0 else x_BTD


def _keep_or_recompute(_context: Any, operation: Any, *_arguments: Any, **_options: Any) -> CheckpointPolicy:
    if operation in _KEPT_OPERATIONS:
        return CheckpointPolicy.MUST_SAVE
    return CheckpointPolicy.PREFER_RECOMPUTE
