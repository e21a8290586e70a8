"""One evaluation of one model: losses over sets, HellaSwag, samples of text, and whether it has over-fitted.

`gpt-run eval` and its watcher call `evaluate_model`.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import torch

from trainer.errors import UserError
from trainer.evaluate.generate import complete, encode_prompt, require_tokenizer
from trainer.evaluate.hellaswag import Item, Row, encode_items, read_items, score_items
from trainer.evaluate.loss import Evaluation, evaluate_loss, evaluate_splits
from trainer.evaluate.overfit import Comparison, compare, seen_batches
from trainer.evaluate.pretrained import Pretrained, check_tokenizer
from trainer.evaluate.result import Request, Result, Sample, SetResult
from trainer.evaluate.sets import EvaluationSet, open_sets

# Told of what is being done, how much of it is done, and how much there is to do.
Progress = Callable[[str, int, int], None]

# Of a model folder, which has no run file to say it.
DEFAULT_SEQUENCES = 256


def evaluate_model(pretrained: Pretrained, request: Request, progress: Progress) -> Result:
    """Do what `request` asks for. UserError for input that does not fit the model, before anything is computed."""
    sets = open_sets(pretrained, request)
    items = read_items(request.hellaswag)[: request.hellaswag_items or None] if request.hellaswag is not None else []
    _check_prompts(pretrained, request)
    if (items or request.prompts) and pretrained.checkpoint is not None and pretrained.tokenizer is not None:
        check_tokenizer(pretrained.checkpoint, pretrained.tokenizer)
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
        comparison = _compare_with_training(pretrained, request, *evaluated[0], progress)
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
            Sample(prompt=found.prompt, text=found.text)
            for found in complete(pretrained, request.prompts, request.sampling)
        ),
        training=comparison,
    )


def _check_prompts(pretrained: Pretrained, request: Request) -> None:
    if request.prompts or request.hellaswag:
        require_tokenizer(pretrained)
    for prompt in request.prompts:
        encode_prompt(pretrained, prompt, request.sampling.max_tokens)


def _evaluate_set(pretrained: Pretrained, request: Request, each: EvaluationSet, progress: Progress) -> Evaluation:
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


def _set_result(each: EvaluationSet, evaluation: Evaluation) -> SetResult:
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
    pretrained: Pretrained, request: Request, each: EvaluationSet, validation: Evaluation, progress: Progress
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
    training = evaluate_loss(
        model, batches, device=device, bytes_per_token=None, stop_requested=told, packed=each.split.packed
    )
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
    return int(pretrained.run["evaluate"]["sequences"]) if pretrained.run is not None else DEFAULT_SEQUENCES
