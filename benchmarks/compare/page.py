"""The table of the comparison: for a terminal, and as the generated part of docs/compare.md."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from benchmarks.common import replace_between
from benchmarks.compare.measurement import OURS, Measurement, Part

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "compare.md"
CHART = ROOT / "docs" / "pictures" / "compare.svg"
START, END = "<!-- compare:start -->", "<!-- compare:end -->"

Results = dict[str, Any]
"""By part: hardware, measurements, absent."""


def write_page(results: Results, parts: Mapping[str, Part]) -> None:
    """Replace what stands between the page's markers."""
    replace_between(PAGE, START, END, page(results, parts))


def page(results: Results, parts: Mapping[str, Part]) -> str:
    """The chart, the table of all parts, then what was done in each."""
    lines = [
        f"![Ratios of every row, against each peer]({CHART.relative_to(PAGE.parent).as_posix()})",
        "",
        "| what | gpt-run | peers (in brackets: how much better gpt-run is) | bar | ratio to the best peer |",
        "| --- | --- | --- | --- | --- |",
    ]
    for name, result in results.items():
        lines += map(row, measurements({name: result}))
        lines += [f"| {name} | | {side}: no figure: {cell(words)} | | |" for side, words in result["absent"].items()]
    for name, part in parts.items():
        if name in results:
            lines += ["", f"**{part.title}**: {part.settings}"]
    return "\n".join([*lines, "", *machines(results)])


def row(measurement: Measurement) -> str:
    """A measurement's line of the page's table."""
    peers = ", ".join(
        f"{peer} {shown(measurement, peer)} ({measurement.ratio_to(peer):.2f})" for peer in peers_of(measurement)
    )
    bar = "" if measurement.bar is None else f">= {measurement.bar:g}"
    ours = f"{shown(measurement, OURS)} {measurement.unit}"
    ratio = f"{shown_ratio(measurement)}{'' if measurement.enough else ' (missed)'}"
    return f"| {measurement.what} | {ours} | {peers} | {bar} | {ratio} |"


def cell(words: str) -> str:
    """What a peer said, so that it neither ends a cell nor is taken for a tag."""
    return words.replace("|", "\\|").replace("<", "&lt;")


def machines(results: Results) -> list[str]:
    """One sentence per machine and day; with several, each names its parts."""
    seen: dict[str, list[str]] = {}
    for name, result in results.items():
        machine = result["hardware"]
        words = f"{machine['cpu']}, {machine['cores']} cores, torch {machine['torch']}, {machine['date']}"
        seen.setdefault(words, []).append(name)
    if len(seen) == 1:
        return [f"Measured on {words}." for words in seen]
    return [f"Measured on {words}: {', '.join(names)}." for words, names in seen.items()]


def text_table(results: Results) -> str:
    """The table for a terminal: a line for each side of each row."""
    lines = []
    for measurement in measurements(results):
        bar = "" if measurement.bar is None else f" (bar {measurement.bar:g}{'' if measurement.enough else ', missed'})"
        lines.append(f"{measurement.what}, {measurement.unit}: {shown_ratio(measurement)} of the best peer{bar}")
        lines.append(f"  {OURS:20}{shown(measurement, OURS):>12}")
        lines += [
            f"  {peer:20}{shown(measurement, peer):>12}  ours is {measurement.ratio_to(peer):.2f} times as good"
            for peer in peers_of(measurement)
        ]
    lines += [
        f"{name}, {side}: no figure: {words}"
        for name, result in results.items()
        for side, words in result["absent"].items()
    ]
    return "\n".join(lines)


def measurements(results: Results) -> Iterator[Measurement]:
    """All rows, part by part."""
    for result in results.values():
        yield from map(Measurement.from_json, result["measurements"])


def peers_of(measurement: Measurement) -> list[str]:
    """The sides that are not ours."""
    return [side for side in measurement.rounds if side != OURS]


def shown_ratio(measurement: Measurement) -> str:
    """The ratio to the best peer, if there is one."""
    return "-" if measurement.ratio is None else f"{measurement.ratio:.2f}"


def shown(measurement: Measurement, side: str) -> str:
    """A side's value as the tables write it."""
    return f"{measurement.median(side):,.{measurement.digits}f}"
