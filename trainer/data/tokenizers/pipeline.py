"""`gpt-run tokenizer train` and `import`: from a pipeline's sources or a foreign file to a tokenizer's folder.

The text is cleaned as the pipeline says, on all cores; only near duplicates are left in. Nothing is done where the
folder is complete from the same inputs. Training holds a sample of the text and its result in memory and writes at the
end: a process that is killed leaves nothing half-made behind, and the next one starts over.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import ValidationError

from trainer.complaints import complaints
from trainer.data.clean.base import Drop, Step
from trainer.data.clean.steps import clean, steps_sha256
from trainer.data.output import sole_writer
from trainer.data.prepare.engine import Engine, Processes
from trainer.data.prepare.pipeline import Pipeline
from trainer.data.progress import progress
from trainer.data.sources import Part, Source
from trainer.data.tokenizer import tokenizer_fingerprint, vocabulary_size
from trainer.data.tokenizers.config import BpeTokenizer, ExistingTokenizer, Loaded, Style, load_with_names
from trainer.data.tokenizers.folder import TokenizerInfo, check_ours, check_replaceable, finished, write
from trainer.data.tokenizers.sample import Sample
from trainer.data.tokenizers.train import named_tokens, train_tokenizer
from trainer.durable import full_disk_named
from trainer.errors import UserError
from trainer.paths import require_local
from trainer.settings import joined_sha256, settings_sha256

# Raise when the same inputs give another tokenizer than before.
METHOD = 1
# Parts of the sources are picked by hash until they hold so many times the sample, as stored: enough for an even
# sample, and terabytes need not be read for the words that are frequent in them.
READ_FACTOR = 20
# What one part may give to the sample: so many times its share, and no less than this.
PART_FACTOR = 8
SMALLEST_PART_BYTES = 1_000_000


@dataclass(frozen=True)
class Made:
    """What a command leaves behind."""

    folder: Path
    info: TokenizerInfo
    skipped: bool
    """The folder was complete already."""


def train(
    pipeline: Pipeline,
    folder: Path,
    *,
    style: Style | None = None,
    vocab_size: int | None = None,
    replace: bool = False,
    engine: Engine | None = None,
) -> Made:
    """Train on the text of a pipeline as its `tokenizer` block says, or in another style and size.

    Raises UserError where the pipeline uses a tokenizer that exists and no style is given, where the text is too little
    for the size, and where the folder holds something else.
    """
    settings = _settings(pipeline, style, vocab_size)
    parts = [str(METHOD), settings_sha256(settings), str(pipeline.seed), steps_sha256(pipeline.clean)]
    parts += pipeline.source_states()
    engine = engine or Processes()

    def make() -> Loaded:
        sample = _sample(pipeline, settings, engine)
        tokenizer = train_tokenizer(settings, sample)
        if vocabulary_size(tokenizer) != settings.size:
            raise UserError(
                f"{sample.num_bytes} bytes of text give {vocabulary_size(tokenizer)} tokens, not {settings.size}",
                expected="text with enough words that occur more than once",
                fix="lower vocab_size, raise sample_bytes, or add sources",
            )
        record = {"pipeline": pipeline.name, "tokenizer": settings.model_dump(mode="json"), "seed": pipeline.seed}
        sources = [source.record() for source in pipeline.sources]
        return Loaded(tokenizer, named_tokens(settings), {**record, "sources": sources})

    try:
        return _into_folder(folder, joined_sha256(parts), make, replace=replace)
    finally:
        engine.close()


def import_tokenizer(settings: ExistingTokenizer, folder: Path, *, replace: bool = False) -> Made:
    """Write the folder of a tokenizer that exists elsewhere. Raises UserError where it cannot be had or not written."""
    loaded = load_with_names(settings)
    inputs = [str(METHOD), tokenizer_fingerprint(loaded.tokenizer), *sorted(map(str, loaded.named.items()))]
    return _into_folder(folder, joined_sha256(inputs), lambda: loaded, replace=replace)


def _into_folder(folder: Path, inputs: str, make: Callable[[], Loaded], *, replace: bool) -> Made:
    require_local(folder, "--output", fix="write to a local folder, and bring it up with `gpt-run data fetch`")
    check_ours(folder)
    # Asked before the lock too: a complete output may lie where nothing can be written.
    done = finished(folder, inputs)
    if done is not None:
        return Made(folder, done, skipped=True)
    with sole_writer(folder), full_disk_named(folder, needs="the tokenizer", fix="free space there and run again"):
        done = finished(folder, inputs)
        if done is not None:
            return Made(folder, done, skipped=True)
        check_replaceable(folder, inputs, replace=replace)
        loaded = make()
        info = write(folder, loaded.tokenizer, loaded.named, inputs_sha256=inputs, made_from=loaded.record)
        return Made(folder, info, skipped=False)


def _settings(pipeline: Pipeline, style: Style | None, vocab_size: int | None) -> BpeTokenizer:
    given = pipeline.tokenizer.model_dump()
    if given["type"] != "bpe":
        if style is None:
            raise UserError(
                f"pipeline {pipeline.name} uses a tokenizer that exists ({given['type']}): there is nothing to train",
                expected="a `tokenizer` block of type bpe, or a style",
                fix="give --style and --vocab-size, or take the tokenizer over with `gpt-run tokenizer import`",
            )
        given = {"type": "bpe"}
    changed: dict[str, Any] = {}
    if style is not None:
        # A size of the pipeline was chosen for its own style.
        changed = {"style": style, "vocab_size": None}
    if vocab_size is not None:
        changed["vocab_size"] = vocab_size
    raw = {**given, **changed}
    try:
        return BpeTokenizer.model_validate(raw)
    except ValidationError as error:
        raise UserError(
            f"pipeline {pipeline.name}, tokenizer: {'; '.join(complaints(error, raw, BpeTokenizer))}",
            expected="a style and a size that fit each other",
            fix="correct the `tokenizer` block, --style or --vocab-size",
        ) from error


class _Task(NamedTuple):
    """A part of which a sample is taken."""

    source: Source
    part: Part
    steps: Sequence[Step]
    max_bytes: int
    seed: int


def _sample(pipeline: Pipeline, settings: BpeTokenizer, engine: Engine) -> Sample:
    picked = _picked_parts(pipeline, READ_FACTOR * settings.sample_bytes)
    total = max(1, sum(part.num_bytes for _, part in picked))
    sample = Sample(settings.sample_bytes, pipeline.seed)
    left_out: Counter[str] = Counter()
    tasks = [
        _Task(source, part, pipeline.clean, _part_bytes(settings, part.num_bytes / total), pipeline.seed)
        for source, part in picked
    ]
    with progress(f"tokenizer: reading by {engine.name}", total) as advance:
        for task, (of_part, left_out_of_part) in zip(tasks, engine.map(_sample_part, tasks), strict=True):
            sample.merge(of_part)
            left_out += left_out_of_part
            advance(task.part.num_bytes)
    if not sample.num_bytes:
        raise UserError(
            f"pipeline {pipeline.name} gives no text; documents left out: "
            + (", ".join(f"{number} by {rule}" for rule, number in left_out.most_common()) or "none, there are none"),
            expected="at least one document of UTF-8 text that its cleaning keeps",
            fix="check its sources and steps",
        )
    return sample


def _part_bytes(settings: BpeTokenizer, share: float) -> int:
    """Most that one part can give. Parts are compressed more or less, so it is more than their share as stored."""
    return int(min(settings.sample_bytes, max(SMALLEST_PART_BYTES, PART_FACTOR * share * settings.sample_bytes)))


def _sample_part(task: _Task) -> tuple[Sample, Counter[str]]:
    """The sample of a part, and how many documents were left out by problem or rule."""
    sample = Sample(task.max_bytes, task.seed)
    left_out: Counter[str] = Counter()
    for document in task.source.read(task.part):
        if document.text is None:
            left_out[str(document.problem)] += 1
            continue
        verdict = clean(document.text, task.steps)
        if isinstance(verdict, Drop):
            left_out[verdict.rule] += 1
        else:
            sample.add(verdict)
    return sample, left_out


def _picked_parts(pipeline: Pipeline, max_bytes: int) -> list[tuple[Source, Part]]:
    """Parts in an order that their names and the seed decide, up to the one that reaches `max_bytes` as stored."""
    parts = [(source, part, f"{i} {part.name}") for i, source in enumerate(pipeline.sources) for part in source.parts()]
    parts.sort(key=lambda item: joined_sha256([str(pipeline.seed), item[2]]))
    picked: list[tuple[Source, Part]] = []
    size = 0
    for source, part, _ in parts:
        picked.append((source, part))
        size += part.num_bytes
        if size >= max_bytes:
            break
    return picked
