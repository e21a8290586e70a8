"""Which sets an evaluation reads, and whether their ids mean to the model what they meant to their tokenizer.

Called by `trainer.evaluate.evaluation` before anything is computed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from trainer.data.config import CacheConfig, DataConfig, Source
from trainer.data.dataset import TokenSplit, open_tokens, splits_of
from trainer.data.remote import locate
from trainer.data.tokenizer import load_tokenizer, tokenizer_fingerprint
from trainer.errors import UserError
from trainer.evaluate.pretrained import Pretrained
from trainer.evaluate.result import Request


@dataclass(frozen=True)
class EvaluationSet:
    name: str
    split: TokenSplit


def open_sets(pretrained: Pretrained, request: Request) -> list[EvaluationSet]:
    length = request.sequence_length or _trained_length(pretrained) or pretrained.config.context
    if length > pretrained.config.context:
        raise UserError(
            f"sequences of {length} tokens",
            expected=f"at most the context of {pretrained.url}, {pretrained.config.context} tokens",
            fix="shorten --sequence-length",
        )
    data = DataConfig.model_validate(pretrained.run["data"]) if pretrained.run is not None else None
    if request.data:
        sources = [Source(path=locate(path).url, split=request.split) for path in request.data]
    elif data is not None:
        # HellaSwag or a sample of a run whose data is elsewhere needs none of it.
        optional = bool(request.hellaswag or request.prompts) and not request.against_training
        sources = _own_sources(data, pretrained.url, optional=optional)
    else:
        sources = []
    if request.against_training and not (sources and data is not None):
        raise UserError(
            f"{pretrained.url} does not say what it was trained on",
            expected="a checkpoint of a run, to compare validation with training",
            fix="name <store>/<run> or a checkpoint in place of a model folder",
        )
    if request.against_training and length != _trained_length(pretrained):
        raise UserError(
            f"sequences of {length} tokens against those of training, {_trained_length(pretrained)}",
            expected="the same length: a loss falls with the length of what is before a token",
            fix="leave --sequence-length out",
        )
    cache = data.cache if data is not None else CacheConfig()
    sets = [
        EvaluationSet(
            source.path, open_tokens(source, split=source.split or "validation", sequence_length=length, cache=cache)
        )
        for source in sources
    ]
    for each in sets:
        _check_set(pretrained, each.split)
    return sets


def _own_sources(data: DataConfig, url: str, *, optional: bool) -> list[Source]:
    """The validation sets of a run: those it names, else the training sources' own."""
    try:
        found = list(data.validation) or [
            source.model_copy(update={"split": "validation"})
            for source in data.train
            if "validation" in splits_of(source)
        ]
    except UserError:
        if optional:
            return []
        raise
    if not found and not optional:
        raise UserError(
            f"{url}: its run has no validation set",
            expected="data.validation in its run file, or a training set with a validation split",
            fix="name a set with --data FOLDER",
        )
    return found


def _check_set(pretrained: Pretrained, split: TokenSplit) -> None:
    """UserError for a set whose ids mean other text than the model's."""
    if split.vocab_size is not None and split.vocab_size > pretrained.config.vocab_size:
        raise UserError(
            f"{split.name}: its tokenizer has {split.vocab_size} tokens, {pretrained.url} has a vocabulary of "
            f"{pretrained.config.vocab_size}",
            expected="a set made with the model's tokenizer",
            fix="prepare the text again with the tokenizer of the model",
        )
    own = _trained_with(pretrained) or _fingerprint(pretrained)
    if split.tokenizer is None or own is None or own == split.tokenizer.fingerprint:
        return
    if pretrained.tokenizer is not None and split.tokenizer.path is not None:
        theirs = load_tokenizer(split.tokenizer.path)
        if _same_ids(pretrained, theirs.get_vocab()):
            return
    raise UserError(
        f"{split.name} was made with the tokenizer {split.tokenizer.name} ({split.tokenizer.fingerprint[:12]}...), the "
        f"model's is another ({own[:12]}...)",
        expected="a set made with the model's tokenizer: the same id means another text in each",
        fix="prepare the text again with the tokenizer of the model",
    )


def _trained_with(pretrained: Pretrained) -> str | None:
    """Fingerprint of the tokenizer behind a checkpoint's data, where it is known."""
    return pretrained.checkpoint.committed.tokenizer_sha256 or None if pretrained.checkpoint else None


def _fingerprint(pretrained: Pretrained) -> str | None:
    return tokenizer_fingerprint(pretrained.tokenizer) if pretrained.tokenizer is not None else None


def _same_ids(pretrained: Pretrained, theirs: Mapping[str, int]) -> bool:
    """Whether a model folder's tokenizer, which others may have saved in another form, has the set's vocabulary."""
    assert pretrained.tokenizer is not None
    return pretrained.checkpoint is None and pretrained.tokenizer.get_vocab() == theirs


def _trained_length(pretrained: Pretrained) -> int | None:
    return int(pretrained.run["sequence_length"]) if pretrained.run is not None else None
