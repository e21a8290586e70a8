"""One evaluation of one model: losses over sets, HellaSwag, samples of text, and whether it has over-fitted.

`gpt-run eval` and its watcher call `evaluate_model`. What is asked for and what was found are pydantic models: the
latter is what `--json` prints and what eval-NAME.json keeps.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict

from trainer.data.config import CacheConfig, DataConfig, Source
from trainer.data.dataset import TokenSplit, open_tokens, splits_of
from trainer.data.tokenizer import load_tokenizer, tokenizer_fingerprint
from trainer.errors import UserError
from trainer.evaluate.generate import Sampling, generate_text
from trainer.evaluate.hellaswag import HellaSwag, Item, Row, encode_items, read_items, score_items
from trainer.evaluate.loss import Evaluation, evaluate_loss, evaluate_splits
from trainer.evaluate.overfit import Comparison, compare, seen_batches
from trainer.evaluate.pretrained import Pretrained

# Told of what is being done, how much of it is done, and how much there is to do.
Progress = Callable[[str, int, int], None]

# Of a model folder, which has no run file to say it.
DEFAULT_SEQUENCES = 256


@dataclass(frozen=True)
class Request:
    """What to evaluate; None and () stand for what the run file says, or for nothing."""

    data: tuple[str, ...] = ()
    """Folders or files of tokens, each a set of its own; () for the validation sets of the run."""
    split: str = "validation"
    sequences: int | None = None
    """Sequences of each set, spread evenly over it; 0 for all."""
    sequence_length: int | None = None
    micro_sequences: int = 8
    """Sequences in one forward pass."""
    hellaswag: str | None = None
    """File of items."""
    hellaswag_items: int = 0
    """The first so many of them; 0 for all."""
    prompts: tuple[str, ...] = ()
    sampling: Sampling = field(default_factory=Sampling)
    against_training: bool = False
    """Whether to compare the first set with what the run has learned from."""


class SetResult(BaseModel):
    """The loss over one set."""

    model_config = ConfigDict(frozen=True, ser_json_inf_nan="strings", use_attribute_docstrings=True)

    validation_loss: float
    """Mean cross-entropy, nats per token."""
    perplexity: float
    """exp(validation_loss)."""
    bits_per_byte: float | None
    """Loss per byte of text, comparable across tokenizers; null where the set does not say how long its text was."""
    standard_error: float | None
    """Of validation_loss as an estimate of the whole set's; null of a single batch."""
    sequences: int
    """Sequences that were read, spread evenly over the set."""
    sequence_length: int
    """Tokens of each."""
    dataset: str
    """Folder or file, as it was named."""


class Sample(BaseModel):
    """A text that the model wrote."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    prompt: str
    """What it was given."""
    text: str
    """What it went on with."""


class Result(BaseModel):
    """What an evaluation found; the keys of its first set stand beside the list of all."""

    model_config = ConfigDict(frozen=True, ser_json_inf_nan="strings", use_attribute_docstrings=True)

    model: str
    """URL of the checkpoint, or the model folder."""
    step: int | None
    """Of the checkpoint; null of a model folder."""
    validation_loss: float | None = None
    """Of the first set, as are the keys down to `dataset`; null where none was asked for."""
    perplexity: float | None = None
    """exp(validation_loss)."""
    bits_per_byte: float | None = None
    """Loss per byte of text; null where the set does not say how long its text was."""
    sequences: int | None = None
    """Sequences that were read."""
    sequence_length: int | None = None
    """Tokens of each."""
    dataset: str | None = None
    """Folder or file, as it was named."""
    sets: tuple[SetResult, ...] = ()
    """Every set, in the order in which they were named."""
    hellaswag: HellaSwag | None = None
    """Where items were given."""
    samples: tuple[Sample, ...] = ()
    """One for each prompt."""
    training: Comparison | None = None
    """Where the comparison with training was asked for."""


@dataclass(frozen=True)
class _Set:
    name: str
    split: TokenSplit


def evaluate_model(pretrained: Pretrained, request: Request, progress: Progress) -> Result:
    """Do what `request` asks for. UserError for input that does not fit the model, before anything is computed."""
    sets = _open_sets(pretrained, request)
    items = read_items(request.hellaswag)[: request.hellaswag_items or None] if request.hellaswag is not None else []
    _check_prompts(pretrained, request)
    if items or request.prompts:
        _check_given_tokenizer(pretrained)
    encoded = _encode(pretrained, items)
    if not (sets or items or request.prompts):
        raise UserError(
            f"{pretrained.url}: nothing to evaluate",
            expected="a set, HellaSwag items or prompts: a model folder has no validation set of its own",
            fix="add --data FOLDER, --hellaswag FILE or --prompt TEXT",
        )
    evaluated = [(each, _evaluate_set(pretrained, request, each, progress)) for each in sets]
    results = tuple(_set_result(each, evaluation) for each, evaluation in evaluated)
    comparison = None
    if request.against_training:
        comparison = _compare_with_training(pretrained, request, evaluated[0][1], progress)
    scores = None
    if items:
        scores = score_items(pretrained.model, items, encoded, lambda done: progress("HellaSwag", done, len(items)))
    first = results[0].model_dump(exclude={"standard_error"}) if results else {}
    return Result(
        model=pretrained.url,
        step=pretrained.checkpoint.step if pretrained.checkpoint else None,
        **first,
        sets=results,
        hellaswag=scores,
        samples=tuple(
            Sample(prompt=prompt, text="".join(generate_text(pretrained, prompt, request.sampling)))
            for prompt in request.prompts
        ),
        training=comparison,
    )


def _open_sets(pretrained: Pretrained, request: Request) -> list[_Set]:
    length = request.sequence_length or _of_run(pretrained, "sequence_length") or pretrained.config.context
    if length > pretrained.config.context:
        raise UserError(
            f"sequences of {length} tokens",
            expected=f"at most the context of {pretrained.url}, {pretrained.config.context} tokens",
            fix="shorten --sequence-length",
        )
    data = DataConfig.model_validate(pretrained.run["data"]) if pretrained.run is not None else None
    if request.data:
        sources = [Source(path=path, split=request.split) for path in request.data]
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
    if request.against_training and length != _of_run(pretrained, "sequence_length"):
        raise UserError(
            f"sequences of {length} tokens against those of training, {_of_run(pretrained, 'sequence_length')}",
            expected="the same length: a loss falls with the length of what is before a token",
            fix="leave --sequence-length out",
        )
    cache = data.cache if data is not None else CacheConfig()
    sets = [
        _Set(source.path, open_tokens(source, split=source.split or "validation", sequence_length=length, cache=cache))
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


def _check_given_tokenizer(pretrained: Pretrained) -> None:
    """UserError for a tokenizer that is not the one behind the data that a checkpoint was trained on."""
    trained, given = _trained_with(pretrained), _fingerprint(pretrained)
    if trained is None or given is None or trained == given:
        return
    raise UserError(
        f"the tokenizer has the fingerprint {given[:12]}..., {pretrained.url} was trained on the ids of "
        f"{trained[:12]}...",
        expected="the tokenizer that the training data was made with",
        fix="name it with --tokenizer FILE",
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


def _check_prompts(pretrained: Pretrained, request: Request) -> None:
    if not (request.prompts or request.hellaswag):
        return
    if pretrained.tokenizer is None:
        raise UserError(
            f"{pretrained.url}: no tokenizer is known for this model",
            expected="a tokenizer.json beside the training data or in the model folder, for prompts and HellaSwag",
            fix="name one with --tokenizer FILE",
        )
    for prompt in request.prompts:
        tokens = len(pretrained.tokenizer.encode(prompt).ids)
        if tokens + request.sampling.max_tokens > pretrained.config.context:
            raise UserError(
                f"a prompt of {tokens} tokens and --max-tokens {request.sampling.max_tokens}",
                expected=f"together at most the context of {pretrained.url}, {pretrained.config.context} tokens",
                fix="shorten the prompt, or lower --max-tokens",
            )


def _evaluate_set(pretrained: Pretrained, request: Request, each: _Set, progress: Progress) -> Evaluation:
    model, split = pretrained.model, each.split
    if pretrained.run is not None and pretrained.run["data"]["document_mask"] and model.document_end_id is None:
        model.document_end_id = split.tokenizer.eos_id if split.tokenizer else None
    sequences = min(_sequences(pretrained, request) or split.num_samples, split.num_samples)
    evaluation = evaluate_splits(
        model,
        [split],
        sequences=sequences,
        micro_sequences=request.micro_sequences,
        rank=0,
        world_size=1,
        device=next(model.parameters()).device,
        stop_requested=_each_batch(progress, each.name, request.micro_sequences, sequences),
    )
    assert evaluation is not None
    return evaluation


def _each_batch(progress: Progress, label: str, micro: int, sequences: int) -> Callable[[], bool]:
    """What the loss asks before each batch: never to stop, and how far it is."""
    before = itertools.count(0, micro)

    def never() -> bool:
        progress(label, next(before), sequences)
        return False

    return never


def _set_result(each: _Set, evaluation: Evaluation) -> SetResult:
    return SetResult(
        validation_loss=evaluation.validation_loss,
        perplexity=evaluation.perplexity,
        bits_per_byte=evaluation.bits_per_byte,
        standard_error=evaluation.standard_error,
        sequences=evaluation.sequences,
        sequence_length=each.split.sequence_length,
        dataset=each.name,
    )


def _compare_with_training(
    pretrained: Pretrained, request: Request, validation: Evaluation, progress: Progress
) -> Comparison:
    assert pretrained.run is not None
    assert pretrained.checkpoint is not None
    model = pretrained.model
    batches = seen_batches(
        pretrained.run,
        steps=pretrained.checkpoint.step,
        sequences=validation.sequences,
        micro=request.micro_sequences,
        vocab_size=pretrained.config.vocab_size,
    )
    device: torch.device = next(model.parameters()).device
    told = _each_batch(progress, "training", request.micro_sequences, validation.sequences)
    training = evaluate_loss(model, batches, device=device, bytes_per_token=None, stop_requested=told)
    assert training is not None
    return compare(training, validation)


def _encode(pretrained: Pretrained, items: Sequence[Item]) -> list[list[Row]]:
    if not items:
        return []
    assert pretrained.tokenizer is not None
    config = pretrained.config
    return encode_items(pretrained.tokenizer, items, context=config.context, vocab_size=config.vocab_size)


def _sequences(pretrained: Pretrained, request: Request) -> int:
    if request.sequences is not None:
        return request.sequences
    evaluate = _of_run(pretrained, "evaluate")
    return int(evaluate["sequences"]) if evaluate else DEFAULT_SEQUENCES


def _of_run(pretrained: Pretrained, key: str) -> Any:
    return pretrained.run[key] if pretrained.run is not None else None
