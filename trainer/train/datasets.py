"""What a run reads: its sets, opened and held against its model, and the batches made of them.

Called by `setup`, by `preflight` and by `evaluation`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from trainer.config import RunConfig
from trainer.data.dataset import TokenSplit, open_training, open_validation
from trainer.data.loader import BatchLoader
from trainer.data.split import TokenizerInfo
from trainer.data.teacher_logits import LogitsReader
from trainer.errors import UserError
from trainer.parallel.world import World


@dataclass(frozen=True)
class Data:
    """The opened sets of a run."""

    train: list[TokenSplit]
    validation: list[TokenSplit]
    samples: int
    document_end_id: int | None
    """The token that ends a document, where attention is to stay within documents."""

    @property
    def tokenizer(self) -> TokenizerInfo | None:
        """That of the training data, where it is known."""
        return next((split.tokenizer for split in self.train if split.tokenizer is not None), None)

    @property
    def packed(self) -> bool:
        """Whether rows are packed conversations, of which only answers count in the loss."""
        return self.train[0].packed


def open_data(config: RunConfig) -> Data:
    """Open training and validation sets; UserError where they do not fit the run."""
    train = open_training(config.data, config.sequence_length)
    evaluates = config.evaluate.every_steps > 0 or config.task == "evaluate"
    validation = open_validation(config.data, config.sequence_length) if evaluates else []
    if evaluates and not validation:
        raise UserError(
            "evaluation is on, but no source has a validation split",
            expected="data.validation, or prepared sets with a validation split",
            fix="name a set under data.validation, or set evaluate.every_steps: 0",
        )
    for split in (*train, *validation):
        if split.vocab_size is not None and split.vocab_size > config.model.vocab_size:
            raise UserError(
                f"{split.name}: its tokenizer has {split.vocab_size} tokens, model.vocab_size is "
                f"{config.model.vocab_size}",
                expected="a model with a row for every token",
                fix=f"set model.vocab_size: {split.vocab_size}",
            )
    if config.task == "finetune" and evaluates and not config.data.validation:
        _require_validation_of_the_domain(train[0], validation[0])
    _require_rows_of_the_task(config, [*train, *validation])
    _require_one_tokenizer([*train, *validation])
    end_id = _document_end_id([*train, *validation]) if config.data.document_mask else None
    return Data(train, validation, sum(split.num_samples for split in train), end_id)


def build_loader(
    config: RunConfig, world: World, data: Data, start_step: int, logits: Sequence[LogitsReader] | None = None
) -> BatchLoader:
    """This rank's batches from `start_step` on; `logits` are what a teacher wrote of each training set."""
    return BatchLoader(
        data.train,
        batch_sequences=config.batch.sequences,
        sequence_length=config.sequence_length,
        seed=config.seed,
        rank=world.rank,
        world_size=world.world_size,
        start_step=start_step,
        weights=[source.weight for source in config.data.train],
        shuffle_group_bytes=config.data.shuffle_group_bytes,
        workers=config.data.workers,
        prefetch_batches=config.data.prefetch_batches,
        vocab_size=config.model.vocab_size,
        logits=logits,
    )


def _require_validation_of_the_domain(domain: TokenSplit, first: TokenSplit) -> None:
    """UserError where the first validation set is not that of the first source, whose loss is to lead the run."""
    if first.fingerprint != domain.fingerprint:
        raise UserError(
            f"task finetune, and {domain.name}, the domain, has no validation split; {first.name} would stand for it",
            expected="a validation set of the domain, before those of what the model knew",
            fix="prepare the domain with a validation_fraction, or name the sets under data.validation, its own first",
        )


def _require_rows_of_the_task(config: RunConfig, splits: Sequence[TokenSplit]) -> None:
    """UserError where sets hold conversations and the task is another than to learn their answers, or the reverse."""
    packed = [split.name for split in splits if split.packed]
    plain = [split.name for split in splits if not split.packed]
    if config.task == "sft" and plain:
        raise UserError(
            f"task sft, and {', '.join(plain)} does not say which of its tokens are answers",
            expected="sets of conversations, from a pipeline with the block `chat`",
            fix="prepare the conversations with `gpt-run data prepare`, or set task: finetune for plain text",
        )
    if config.task in ("pretrain", "finetune", "distill") and packed:
        raise UserError(
            f"task {config.task}, and {', '.join(packed)} holds packed conversations, of which only the answers count",
            expected="sets of plain text",
            fix="set task: sft with initial_weights, or name a set of text under data",
        )
    if packed and plain:
        raise UserError(
            f"{', '.join(packed)} holds packed conversations, {', '.join(plain)} plain text",
            expected="sets of one kind in a run",
            fix="evaluate them one after the other",
        )


def _require_one_tokenizer(splits: Sequence[TokenSplit]) -> None:
    """UserError where sets that are read together have ids of different tokenizers."""
    found = {split.name: split.tokenizer for split in splits if split.tokenizer is not None}
    if len({tokenizer.fingerprint for tokenizer in found.values()}) > 1:
        said = ", ".join(f"{name}: {each.name} ({each.fingerprint[:12]}...)" for name, each in found.items())
        raise UserError(
            f"the sets of data.train and data.validation were made with several tokenizers: {said}",
            expected="one tokenizer, since the same id means another text in each",
            fix="prepare all of them with the same tokenizer.json",
        )


def _document_end_id(splits: Sequence[TokenSplit]) -> int:
    """The token that ends a document; UserError where a set does not say."""
    unknown = [split.name for split in splits if split.tokenizer is None]
    ids = {split.tokenizer.eos_id for split in splits if split.tokenizer is not None}
    if unknown:
        raise UserError(
            f"data.document_mask is on, and {', '.join(unknown)} does not say which token ends a document",
            expected="sets that `gpt-run data prepare` made: raw token files do not say it",
            fix="prepare the text again, or set data.document_mask: false",
        )
    return ids.pop()
