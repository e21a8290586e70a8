"""A run's lines as TensorBoard's events: scalars, histograms, texts and hyperparameters.

Shared by the tracker that keeps event files in the store and by `gpt-run tensorboard`, which makes them anew from the
lines. Imports TensorBoard, so it is imported where that is needed and not before. Everything here is a pure function:
the same lines give the same bytes.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping
from itertools import pairwise
from typing import Any

from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import HistogramProto, Summary
from tensorboard.plugins.hparams.summary_v2 import hparams_pb
from tensorboard.plugins.text.summary_v2 import text_pb
from tensorboard.summary.writer.record_writer import RecordWriter

from trainer.metrics import lines
from trainer.metrics.trackers.base import Line, curves_of
from trainer.metrics.trackers.hyperparameters import flatten


def encode(events: Iterable[Any]) -> bytes:
    """Events as they stand in an event file."""
    stream = io.BytesIO()
    writer = RecordWriter(stream)
    for event in events:
        writer.write(event.SerializeToString())
    return stream.getvalue()


def header() -> Any:
    """What every event file begins with."""
    return Event(file_version="brain.Event:2")


def session_start(first_step: int, seconds: float) -> Any:
    """An attempt begins: TensorBoard drops what it has of this step and later ones, so that no curve forks."""
    return Event(session_log=SessionLog(status=SessionLog.START), step=first_step, wall_time=seconds)


def hyperparameters(settings: Mapping[str, Any], run: str, seconds: float) -> Any:
    """The settings of a run, for the dashboard of that name."""
    summary = hparams_pb(flatten(settings), trial_id=run, start_time_secs=seconds)
    return Event(summary=summary, wall_time=seconds)


def events_of(line: Line) -> list[Any]:
    """The events of one line."""
    record = line.record
    if line.kind == "training":
        values = [Summary.Value(tag=tag, simple_value=value) for tag, value in curves_of(record).items()]
    elif line.kind == "samples":
        # Markdown: a block of code shows a text as it is.
        text = "\n".join(f"    {part}" for part in (record["prompt"] + record["text"]).split("\n"))
        values = list(text_pb(f"samples/{record['number']}", text).value)
    else:
        values = [
            _histogram(f"{what}/{module}", record["edges"], record[what][module])
            for what in ("parameters", "gradients")
            for module in record[what]
        ]
    seconds = seconds_of(record)
    return [Event(summary=Summary(value=values), step=record["step"], wall_time=seconds)] if values else []


def seconds_of(record: dict[str, Any]) -> float:
    """When a line was written, seconds since the epoch; 0 where it does not say."""
    return lines.seconds_of(record) or 0.0


def _histogram(tag: str, edges: list[float], found: dict[str, Any]) -> Any:
    """In TensorBoard's older form, which all its readers know, and know to drop after a restart."""
    first, counts = found["first"], found["counts"]
    sides = edges[first : first + len(counts) + 1]
    middles = [(left + right) / 2 for left, right in pairwise(sides)]
    histogram = HistogramProto(
        min=sides[0],
        max=sides[-1],
        num=sum(counts),
        sum=sum(count * middle for count, middle in zip(counts, middles, strict=True)),
        sum_squares=sum(count * middle**2 for count, middle in zip(counts, middles, strict=True)),
        bucket_limit=sides[1:],
        bucket=counts,
    )
    return Summary.Value(tag=tag, histo=histogram)
