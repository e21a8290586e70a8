"""The chart of the comparison: one bar per row and peer, as long as gpt-run is times as good; drawn by Matplotlib."""

from __future__ import annotations

from pathlib import Path

from benchmarks.compare.measurement import Measurement
from benchmarks.compare.page import Results, measurements, peers_of

WIDTH_INCHES = 9.0
BAR_INCHES = 0.22
GAP_BARS = 1.2
# Longer ones would hide the others; their figure says how long they are.
MOST_RATIO = 6.0
COLOURS = {True: "#2a7f62", False: "#b5483a"}


def write_chart(results: Results, file: Path) -> None:
    """An SVG or PNG, by the file's ending; the same bytes for the same results."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    # Else every run would name the drawing's parts anew.
    matplotlib.rcParams["svg.hashsalt"] = "gpt-run"
    matplotlib.rcParams["svg.fonttype"] = "none"
    rows = list(measurements(results))
    bars = sum(len(peers_of(row)) for row in rows)
    height = BAR_INCHES * (bars + GAP_BARS * len(rows)) + 0.6
    figure, axes = pyplot.subplots(figsize=(WIDTH_INCHES, height))
    place = 0.0
    for row in rows:
        axes.text(0.0, place, f"{row.what} ({row.unit})", fontsize=8, fontweight="bold", va="center")
        place += 1
        for peer in peers_of(row):
            draw_bar(axes, place, row, peer)
            place += 1
        place += GAP_BARS - 1
    axes.axvline(1.0, color="black", linewidth=0.8)
    axes.set_xlim(0, MOST_RATIO * 1.08)
    axes.set_ylim(place, -1)
    axes.set_yticks([])
    axes.set_xlabel("times as good as the peer (1: equal; bars end at 6)", fontsize=8)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    file.parent.mkdir(parents=True, exist_ok=True)
    metadata = {"Date": None} if file.suffix == ".svg" else {"Software": None}
    figure.savefig(file, bbox_inches="tight", metadata=metadata, dpi=120)
    pyplot.close(figure)


def draw_bar(axes: object, place: float, row: Measurement, peer: str) -> None:
    """One peer of one row: its name and ratio beside the bar."""
    ratio = row.ratio_to(peer)
    length = min(ratio, MOST_RATIO)
    axes.barh(place, length, height=0.8, color=COLOURS[ratio >= (row.bar or 1.0)])  # type: ignore[attr-defined]
    axes.text(length + 0.05, place, f"{ratio:.2f} {peer}", fontsize=7, va="center")  # type: ignore[attr-defined]
