"""From runs to points of a scaling law: parameters, tokens, and the validation loss at the end.

Only the end of a finished run is a point: in the middle of a run the learning rate has not come down yet, and its loss
is higher than that of a run of that length (Hoffmann et al. 2022, section 3.1).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime

from trainer.checkpoint.store import open_store
from trainer.config import RunConfig
from trainer.config_file import validate_run
from trainer.errors import UserError
from trainer.metrics.report.build import build
from trainer.metrics.report.reading import PARTS, RunFiles, read_run
from trainer.model.size import count_parameters
from trainer.sweep.standing import ended_well

_STREAMS = 8
FEWEST_RUNS = 6
"""One more than the law has coefficients."""
FEWEST_SIZES = 3
_MOST_CORRELATION = 0.98


@dataclass(frozen=True)
class LawPoint:
    """One run."""

    run: str
    parameters: int
    """All of them, embeddings included, as `gpt-run plan` counts."""
    tokens: int
    loss: float
    """Validation loss at the end, nats per token."""
    epochs: float | None = None


@dataclass
class Found:
    """What the runs gave."""

    points: list[LawPoint] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)
    """Run -> why it is no point."""
    configs: list[RunConfig] = field(default_factory=list)


def read_points(places: Sequence[str]) -> Found:
    """Points of runs, or of all runs in a folder or URL. UserError where no law can be fitted to them."""
    urls = list(dict.fromkeys(url for place in places for url in _runs_at(place)))
    found = Found()
    with ThreadPoolExecutor(_STREAMS) as pool:
        for url, files in zip(urls, pool.map(_read, urls), strict=True):
            if isinstance(files, str):
                found.skipped[url] = files
            else:
                _add(found, url, files)
    vocabularies = {config.model.vocab_size for config in found.configs}
    if len(vocabularies) > 1:
        raise UserError(
            f"runs with vocabularies of {', '.join(map(str, sorted(vocabularies)))} tokens",
            expected="one tokenizer: losses per token are comparable with no other",
            fix="name the runs of one tokenizer",
        )
    check_design(found.points, found.skipped)
    return found


def check_design(points: Sequence[LawPoint], skipped: dict[str, str]) -> None:
    """UserError where the points cannot tell the law's terms from each other."""
    why = [f"{run}: {words}" for run, words in skipped.items()]
    left_out = "".join(f"\n  left out: {line}" for line in why)
    if len(points) < FEWEST_RUNS:
        raise UserError(
            f"{len(points)} finished runs for a law of five coefficients{left_out}",
            expected=f"{FEWEST_RUNS} runs or more",
            fix="train more, for example with `gpt-run sweep` over model sizes and tokens",
        )
    for what, values in (
        ("numbers of parameters", {point.parameters for point in points}),
        ("numbers of tokens", {point.tokens for point in points}),
    ):
        if len(values) < FEWEST_SIZES:
            raise UserError(
                f"{len(values)} different {what} in {len(points)} runs: {', '.join(f'{v:,}' for v in sorted(values))}"
                f"{left_out}",
                expected=f"{FEWEST_SIZES} or more, or nothing tells the curve along them from a constant",
                fix=f"train runs with other {what}",
            )
    correlation = _correlation([(math.log(point.parameters), math.log(point.tokens)) for point in points])
    if abs(correlation) > _MOST_CORRELATION:
        raise UserError(
            f"parameters and tokens change together in all {len(points)} runs (correlation of the logarithms "
            f"{correlation:.3f}){left_out}",
            expected="models of one size trained on different numbers of tokens, and the other way round",
            fix="add runs off that line: a small model for long, a large one for a short time",
        )


def warnings_of(found: Found) -> Iterator[str]:
    """What makes the points less comparable than they should be."""
    for run, why in found.skipped.items():
        yield f"{run} is left out: {why}"
    repeated = [point for point in found.points if point.epochs is not None and point.epochs > 1]
    if repeated:
        most = max(point.epochs or 0.0 for point in repeated)
        yield (
            f"{len(repeated)} runs read their text more than once (up to {most:.1f} times); the law is one of "
            "different tokens"
        )
    for what, values in (
        ("data.train", {tuple(source.path for source in config.data.train) for config in found.configs}),
        ("sequence_length", {config.sequence_length for config in found.configs}),
    ):
        if len(values) > 1:
            yield f"the runs differ in {what}, which moves losses too"


def _runs_at(place: str) -> list[str]:
    """The run itself, or the runs below."""
    store = open_store(place)
    names = store.list_names()
    if not PARTS.isdisjoint(names):
        return [store.url]
    runs = [store.child(name) for name in sorted(names) if "." not in name]
    found = [run.url for run in runs if not PARTS.isdisjoint(run.list_names())]
    if not found:
        raise UserError(
            f"{store.url} holds no run",
            expected="<store>/<run>, or a store of runs",
            fix="correct the path or URL",
        )
    return found


def _read(url: str) -> RunFiles | str:
    try:
        return read_run(url)
    except UserError as error:
        return error.found


def _add(found: Found, url: str, files: RunFiles) -> None:
    report = build(files, datetime.now(UTC))
    if not ended_well(report):
        found.skipped[url] = "it is not finished, so its schedule has not come to its end"
        return
    lines = [line for line in report.kept if line.evaluated and line.tokens]
    if not lines:
        found.skipped[url] = "it has no validation loss (evaluate.every_steps)"
        return
    if lines[-1].validation_loss is None:
        found.skipped[url] = "its last validation loss is not a number"
        return
    try:
        config = validate_run(files.config, source=url)
    except UserError as error:
        found.skipped[url] = error.found
        return
    last = lines[-1]
    assert last.tokens is not None
    assert last.validation_loss is not None
    found.configs.append(config)
    size = count_parameters(config.model)
    found.points.append(LawPoint(url, size, last.tokens, last.validation_loss, last.epoch))


def _correlation(pairs: Sequence[tuple[float, float]]) -> float:
    """Of logarithms that both vary."""
    count = len(pairs)
    x_mean, y_mean = (sum(pair[i] for pair in pairs) / count for i in (0, 1))
    xy = sum((x - x_mean) * (y - y_mean) for x, y in pairs)
    xx, yy = sum((x - x_mean) ** 2 for x, _ in pairs), sum((y - y_mean) ** 2 for _, y in pairs)
    return xy / math.sqrt(xx * yy)
