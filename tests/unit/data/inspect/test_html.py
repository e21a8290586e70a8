"""The page: well-formed, with the figures, readable without sight, and with nothing from elsewhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.unit.pages.reading import Page, contrast
from trainer.data.inspect import Report, inspect_data
from trainer.data.inspect.charts import filters_plot, lengths_plot, ranks_plot, round_ticks
from trainer.data.inspect.html import check_writable, render_page, write_page
from trainer.data.inspect.report import Bucket, Filter, Rank
from trainer.errors import UserError
from trainer.pages.plots import axis_number


@pytest.fixture(scope="module")
def report(prepared: Path) -> Report:
    return inspect_data(str(prepared), verify=True)


@pytest.fixture(scope="module")
def page(report: Report) -> Page:
    return Page(render_page(report))


def test_the_page_holds_the_figures(page: Page, report: Report) -> None:
    text = " ".join(" ".join(page.texts["body"]).split())
    for split in report.splits:
        assert f"{split.tokens:,}" in text
        assert split.lengths is not None
        assert split.vocabulary is not None
        assert f"{split.vocabulary.used:,} of 300 ids occur" in text
        cells = page.texts["td"]
        assert {f"{bucket.tokens:,}" for bucket in split.lengths.histogram} <= set(cells)
        assert {f"{one.count:,}" for one in split.vocabulary.most_used} <= set(cells)
    assert report.fingerprint in page.texts["code"]
    assert "utf-8" in page.texts["th"]
    assert "60 of 61 documents stay (98.4%)" in text
    assert "5 times" in text


def test_the_plots_have_a_column_for_each_bucket(page: Page, report: Report) -> None:
    lengths = [split.lengths for split in report.splits if split.lengths is not None]
    dropping = sum(one.dropped > 0 for one in report.filters)
    assert len(page.all("rect")) == dropping + sum(len(one.histogram) for one in lengths)
    points = [line["points"] for line in page.all("polyline")]
    assert [len(str(line).split()) for line in points] == [
        len(split.vocabulary.ranks) for split in report.splits if split.vocabulary is not None
    ]


def test_what_comes_from_data_stays_text(report: Report) -> None:
    text = render_page(report)
    assert "&lt;script&gt;alert(1)&lt;/script&gt; &amp; more" in text
    assert "<script" not in text
    assert r"\x1b[31mred\u202e [bold]not markup" in text
    assert "\x1b" not in text


def test_nothing_is_loaded_from_elsewhere(page: Page) -> None:
    assert {name for name, _ in page.elements} & {"script", "link", "img", "iframe", "object", "embed"} == set()
    assert all(str(link["href"]).startswith("#") for link in page.all("a"))
    policy = next(meta for meta in page.all("meta") if meta.get("http-equiv") == "Content-Security-Policy")
    assert policy["content"] == "default-src 'none'; style-src 'unsafe-inline'"
    assert "url(" not in page.texts["style"][0]
    assert "@import" not in page.texts["style"][0]


def test_the_page_can_be_read_without_seeing_it(page: Page) -> None:
    assert page.all("html") == [{"lang": "en"}]
    assert page.texts["title"][0] == "small: what the data set holds"
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    drawings = page.all("svg")
    assert len(drawings) == 5
    for drawing in drawings:
        assert drawing["role"] == "img"
        assert set(str(drawing["aria-labelledby"]).split()) <= set(ids)
    for _, attributes in page.elements:
        assert str(attributes.get("href", "#")).removeprefix("#") in {"", *map(str, ids)}
    assert len(page.all("caption")) == len(page.all("table"))
    assert all(header.get("scope") in ("row", "col") for header in page.all("th"))
    assert [int(tag[1]) for tag, _ in page.elements if re.fullmatch("h[1-6]", tag)][:3] == [1, 2, 2]


def test_both_palettes_have_the_contrast_that_wcag_asks_for(page: Page) -> None:
    style = page.texts["style"][0]
    palettes = [dict(re.findall(r"--(\w+): (#\w{6})", block)) for block in re.findall(r":root \{(.*?)\}", style, re.S)]
    assert len(palettes) == 2
    assert "@media (prefers-color-scheme: dark)" in style
    for palette in palettes:
        for ground in ("back", "panel"):
            assert contrast(palette["text"], palette[ground]) >= 7
            assert contrast(palette["muted"], palette[ground]) >= 4.5
            # Links have the colour of the bars.
            assert contrast(palette["bar"], palette[ground]) >= 4.5


def test_a_raw_file_and_an_empty_split_have_a_page(tmp_path: Path, write_set) -> None:
    write_set(tmp_path / "set", train=[10, 12], validation=[])
    text = " ".join(Page(render_page(inspect_data(str(tmp_path / "set")))).texts["body"])
    assert "nothing: empty" in text
    (tmp_path / "t.bin").write_bytes(bytes(8))
    text = " ".join(Page(render_page(inspect_data(str(tmp_path / "t.bin")))).texts["body"])
    assert "1 ids occur, the largest is 0" in text


def test_a_sample_is_marked_as_one(prepared: Path) -> None:
    text = " ".join(Page(render_page(inspect_data(str(prepared), sampled_tokens=3000))).texts["body"])
    assert "--full reads all" in text
    assert "a sample: 1 of" in text


def test_a_place_where_no_page_can_be_is_refused_at_once(tmp_path: Path, report: Report) -> None:
    check_writable(tmp_path / "new" / "report.html")
    write_page(report, tmp_path / "new" / "report.html")
    assert (tmp_path / "new" / "report.html").read_text(encoding="utf-8").startswith("<!doctype html>")
    with pytest.raises(UserError, match="new is no file"):
        check_writable(tmp_path / "new")
    with pytest.raises(UserError, match=r"report\.html is no folder"):
        check_writable(tmp_path / "new" / "report.html" / "x.html")


def test_bars_are_as_long_as_their_figures() -> None:
    buckets = [Bucket(start=1 << i, stop=2 << i, documents=count, tokens=0) for i, count in enumerate([5, 0, 20])]
    plot = lengths_plot(buckets)
    heights = [bar.height for bar in plot.bars]
    assert heights == [heights[2] / 4, 0, plot.bottom - plot.top]
    assert [tick.label for tick in plot.ticks_y] == ["0", "5", "10", "15", "20"]
    assert plot.bars[2].value == "20 documents (80.0%)"
    filters = [Filter(name=name, seen=100, dropped=n, share=n / 100) for name, n in (("a", 30), ("b", 0), ("c", 15))]
    rows = filters_plot(filters)
    assert rows is not None
    assert [bar.label for bar in rows.bars] == ["a", "c"]
    assert rows.bars[0].width == 2 * rows.bars[1].width
    assert filters_plot([filters[1]]) is None
    curve = ranks_plot([Rank(rank=1, count=1000), Rank(rank=10, count=100), Rank(rank=100, count=10)])
    (x0, y0), (x1, y1), (x2, y2) = curve.lines[0].points
    assert (x1 - x0, y1 - y0) == (pytest.approx(x2 - x1), pytest.approx(y2 - y1))
    assert ranks_plot([Rank(rank=1, count=1)]).lines[0].points == ((curve.left, curve.bottom),)


@pytest.mark.parametrize(("largest", "ticks"), [(1, [0, 1]), (7, [0, 2, 4, 6, 8]), (295, [0, 100, 200, 300])])
def test_ticks_are_round(largest: int, ticks: list[int]) -> None:
    assert round_ticks(largest) == ticks


def test_numbers_beside_axes_are_short() -> None:
    assert [axis_number(n) for n in (500, 5000, 20_000_000, 2_500_000_000)] == ["500", "5,000", "20M", "2.5G"]
