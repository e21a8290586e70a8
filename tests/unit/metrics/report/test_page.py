"""The page and the text: with the figures, readable without sight, nothing from elsewhere, small for long runs."""

from __future__ import annotations

import re
from collections.abc import Callable
from io import StringIO
from pathlib import Path

import pytest
from rich.cells import cell_len
from rich.console import Console

from tests.unit.metrics.report.conftest import Run, account, gpu, training
from tests.unit.pages.reading import Page, contrast
from trainer.metrics.goodput import Bucket
from trainer.metrics.report import RunReport, report_run
from trainer.metrics.report.charts import TimeAxis, goodput_plot, timeline_plot
from trainer.metrics.report.html import render_page, write_page
from trainer.metrics.report.text import print_report
from trainer.metrics.report.wording import BUCKETS


def printed(run: RunReport, other: RunReport | None = None) -> str:
    out = StringIO()
    print_report(run, Console(file=out, width=80, force_terminal=False), other)
    return out.getvalue()


@pytest.fixture
def run(killed_and_scaled: Run) -> RunReport:
    return report_run(killed_and_scaled.url)


def test_page_and_text_hold_the_figures(run: RunReport, tmp_path: Path) -> None:
    write_page(run, tmp_path / "report.html")
    page = Page((tmp_path / "report.html").read_text(encoding="utf-8"))
    text = printed(run)
    for words in (
        "step 120 of 120 (100.0%)",
        "validation 3.5000",
        "0.40 EUR, 0.17 of it lost to faults (41.7%)",
        "3 attempts: 1 WorkerFailed, 1 Scaled",
        "WorkerFailed (counted)",
        "wasted_progress",
        "80.0%",
        "goodput 55.6%",
    ):
        assert words in " ".join(page.texts["body"][0].split()), words
        assert words in " ".join(text.split()), words
    assert "rank 1 <died>" in page.texts["body"][0]
    assert max(cell_len(line.rstrip()) for line in text.splitlines()) <= 80
    assert {svg.get("aria-labelledby") for svg in page.all("svg") if svg.get("role")} == {
        f"{name}-plot-title {name}-plot-text"
        for name in ("loss", "speed", "mfu", "goodput", "timeline", "restarts", "saves", "gpus", "memory")
    }


def test_what_comes_from_files_stays_text(killed_and_scaled: Run) -> None:
    killed_and_scaled.config(model={"family": "<script>alert(1)</script>\x1b[31m[bold]"})
    found = report_run(killed_and_scaled.url)
    page = render_page(found)
    assert "&lt;script&gt;" in page
    assert "<script" not in page
    assert r"\x1b[31m[bold]" in printed(found)


def test_nothing_is_loaded_and_everything_is_labelled(run: RunReport) -> None:
    text = render_page(run)
    page = Page(text)
    assert {name for name, _ in page.elements} & {"script", "link", "img", "iframe", "object", "embed"} == set()
    assert all(str(link["href"]).startswith("#") for link in page.all("a"))
    policy = next(meta for meta in page.all("meta") if meta.get("http-equiv") == "Content-Security-Policy")
    assert policy["content"] == "default-src 'none'; style-src 'unsafe-inline'"
    assert "url(" not in text
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    for _, attributes in page.elements:
        assert str(attributes.get("href", "#")).removeprefix("#") in {"", *map(str, ids)}
    assert len(page.all("caption")) == len(page.all("table"))
    assert all(header.get("scope") in ("row", "col") for header in page.all("th"))


def test_colours_of_both_palettes_can_be_seen(run: RunReport) -> None:
    blocks = re.findall(r":root \{(.*?)\}", render_page(run), re.S)
    light, dark, light_marks, dark_marks = (dict(re.findall(r"--(\w+): (#\w{6})", block)) for block in blocks)
    for palette, marks in ((light, light_marks), (dark, dark_marks)):
        assert [name for name, color in marks.items() if contrast(color, palette["back"]) < 3] == []
    assert set(light_marks) == set(dark_marks)


def test_areas_fill_the_whole_and_bars_are_as_long_as_attempts(run: RunReport) -> None:
    axis = TimeAxis(run.report)
    areas = goodput_plot(run, axis)
    assert areas is not None
    assert [area.style for area in areas.areas] == [
        f"area {bucket}" for bucket in ("training", "program_start", "init", "wasted_progress", "infra_recovery")
    ]
    assert areas.areas[0].points[-1].y == areas.bottom
    assert areas.areas[-1].points[0].y == pytest.approx(areas.top)
    bars = timeline_plot(run, axis)
    assert bars is not None
    first, second, third = bars.bars
    assert first.width / second.width == pytest.approx(70 / 52)
    assert third.height == 2 * first.height
    assert [bar.style for bar in bars.bars] == ["counted", "free", "finished"]
    assert third.x + third.width == pytest.approx(bars.right)


def test_two_runs_are_compared_by_tokens(run: RunReport, new_run: Callable[..., Run]) -> None:
    other = new_run("other")
    other.claim(1, 0)
    other.lines(1, "training", [training(step, step, loss=3.0) for step in (30, 60)])
    text, page = printed(run, report_run(other.url)), render_page(run, report_run(other.url))
    assert re.search(r"loss at 60\.0k tokens +3\.4000 +3\.0000", text)
    assert "loss at 60.0k tokens" in page
    assert page.count('class="curve third"') == 1
    assert ">tokens</text>" in page


def test_a_run_of_which_little_is_known(new_run: Callable[..., Run]) -> None:
    run = new_run()
    run.claim(1, 0)
    found = report_run(run.url)
    page = Page(render_page(found))
    for words in ("No line has a loss", "No line has a speed", "No checkpoint is there", "There is no price"):
        assert words in page.texts["body"][0]
    assert "goodput, parts of a step" in printed(found)


def test_pages_of_long_runs_stay_small(new_run: Callable[..., Run]) -> None:
    run = new_run()
    for attempt in range(1, 6):
        first = attempt * 2000
        run.claim(attempt, first, base=f"step-{first:08d}-a{attempt - 1:04d}" if attempt > 1 else None)
        steps = range(first + 1, first + 2001)
        run.lines(attempt, "training", [training(step, step, loss=3 + step % 7) for step in steps])
        run.lines(attempt, "gpu", [gpu(step, step, 0, step % 5 / 5) for step in steps])
        run.lines(attempt, "performance", [account(step, step, training=step, init=1) for step in steps])
    found = report_run(run.url)
    assert len(found.lines) == 10_000
    page = render_page(found)
    assert len(page) < 400_000
    assert "Curves have more points than a drawing has columns" in page
    assert found.goodput[-1].buckets == (1.0, *(0.0,) * 4, 12_000.0, *(0.0,) * 5)
    assert len(found.goodput) <= 4096


def test_every_bucket_has_a_place() -> None:
    assert sorted(BUCKETS) == sorted(Bucket)
