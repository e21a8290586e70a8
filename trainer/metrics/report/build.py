"""From a run's files to its report: figures for text and JSON, lines for the plots.

Called by `gpt-run report`. `build` is pure; `report_run` reads first.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from trainer.metrics.report.attempts import attempt_rows, last_steps, restarts_of, utc
from trainer.metrics.report.figures import checkpoints_of, cost_of, goodput_of, gpus_of, hosts_of, performance_of
from trainer.metrics.report.folds import GoodputPoint, GpuPoint, TrainingLine
from trainer.metrics.report.model import AttemptRow, End, Report
from trainer.metrics.report.reading import RunFiles, read_run

_MOST_WARNINGS = 20


@dataclass(frozen=True)
class RunReport:
    """A report, and what its curves are drawn from."""

    report: Report
    kept: tuple[TrainingLine, ...]
    """Lines of the run's curve: what a later attempt did again is taken out."""
    lines: tuple[TrainingLine, ...]
    """All lines, for what is drawn over time."""
    goodput: tuple[GoodputPoint, ...]
    gpus: tuple[GpuPoint, ...]


def report_run(url: str) -> RunReport:
    """The report of the run at `url` (<store>/<run>). UserError where there is none."""
    return build(read_run(url), datetime.now(UTC))


def build(files: RunFiles, now: datetime) -> RunReport:
    """The report of what was read."""
    limits = last_steps(files)
    rows = attempt_rows(files, limits)
    kept = tuple(line for line in files.training if line.step <= limits[line.attempt])
    return RunReport(
        report=_report(files, rows, kept, now),
        kept=kept,
        lines=tuple(files.training),
        goodput=tuple(files.performance.points),
        gpus=tuple(files.gpus.points),
    )


def _report(files: RunFiles, rows: tuple[AttemptRow, ...], kept: tuple[TrainingLine, ...], now: datetime) -> Report:
    starts = [row.started_at for row in rows if row.started_at is not None]
    if files.performance.points:
        # The account begins when the first process started, before the first claim.
        last = files.performance.points[-1]
        starts += filter(None, [utc(last.seconds - sum(last.buckets))])
    signs = [row.last_sign_at for row in rows if row.last_sign_at is not None]
    newest = max((one for one in files.checkpoints), key=lambda one: (one.attempt, one.step), default=None)
    step = max((line.step for line in kept), default=newest.step if newest else None)
    tokens = _last(kept, "tokens") or (newest.tokens if newest else None)
    validation = [line.validation_loss for line in kept if line.validation_loss is not None]
    goodput = goodput_of(files.performance)
    model, planned, precision = _plan(files.config)
    return Report(
        url=files.url,
        name=files.name,
        made_at=now,
        model=model,
        steps_planned=planned,
        precision=precision,
        started_at=min(starts, default=None),
        last_sign_at=max(signs, default=None),
        wall_seconds=(max(signs) - min(starts)).total_seconds() if starts and signs else None,
        step=step,
        tokens=tokens,
        epoch=_last(kept, "epoch"),
        loss=_last(kept, "loss"),
        validation_loss=next((line.validation_loss for line in reversed(kept) if line.evaluated), None),
        best_validation_loss=min(validation, default=None),
        nonfinite_lines=sum(line.nonfinite for line in files.training),
        end=_run_end(rows, step, planned),
        attempts=rows,
        restarts=restarts_of(rows),
        performance=performance_of(files.training, files.performance),
        gpus=gpus_of(files.gpus),
        hosts=hosts_of(files.performance),
        goodput=goodput,
        cost=cost_of(files.config, goodput, rows, tokens),
        checkpoints=checkpoints_of(files),
        missing=_missing(files, rows),
        warnings=_first_of(files.warnings),
    )


def _run_end(rows: tuple[AttemptRow, ...], step: int | None, planned: int | None) -> End | None:
    if rows and rows[-1].end is not None:
        return rows[-1].end
    if planned is not None and step is not None and step >= planned:
        return End(reason="finished", counted=False, message=f"step {step} is the last that run.yaml asks for")
    return None


def _plan(config: Mapping[str, Any]) -> tuple[str | None, int | None, str | None]:
    """(model, steps, precision) of run.yaml, as far as it says them."""
    model = config.get("model")
    name = None
    if isinstance(model, Mapping):
        name = next((str(model[key]) for key in ("preset", "family") if model.get(key)), None)
    precision = config.get("precision")
    return name, _steps_planned(config), precision if isinstance(precision, str) else None


def _steps_planned(config: Mapping[str, Any]) -> int | None:
    steps, tokens, batch = config.get("steps"), config.get("tokens"), config.get("batch")
    if isinstance(steps, int):
        return steps
    length = config.get("sequence_length")
    sequences = batch.get("sequences") if isinstance(batch, Mapping) else None
    if isinstance(tokens, int) and isinstance(length, int) and isinstance(sequences, int) and length * sequences > 0:
        return -(-tokens // (length * sequences))
    return None


def _missing(files: RunFiles, rows: tuple[AttemptRow, ...]) -> tuple[str, ...]:
    """Parts that the files have nothing for."""
    settings = files.config.get("cost")
    has_price = isinstance(settings, Mapping) and settings.get("price_per_gpu_hour") is not None
    absent = {
        "loss, speed and scaling: there are no training lines in logs/": not files.training,
        "goodput, parts of a step, waits for saves and machines: there are no performance lines in logs/": (
            not files.performance.lines
        ),
        "GPU utilization and memory: there are no gpu lines in logs/": not files.gpus.gpus,
        "failed saves, and how the newest attempt ended: there are no event lines in logs/": not files.events,
        "checkpoints: none is committed": not files.checkpoints,
        "claims of attempts: attempts/ holds none that can be read": bool(rows) and not files.claims,
        "cost: run.yaml has no cost.price_per_gpu_hour": not has_price,
    }
    return tuple(text for text, applies in absent.items() if applies)


def _first_of(warnings: list[str]) -> tuple[str, ...]:
    more = len(warnings) - _MOST_WARNINGS
    return (*warnings[:_MOST_WARNINGS], f"and {more} more warnings") if more > 0 else tuple(warnings)


def _last(lines: tuple[TrainingLine, ...], name: str) -> Any:
    """The newest value of a field that has one."""
    return next((value for line in reversed(lines) if (value := getattr(line, name)) is not None), None)
