"""Kinds of panels, each with title, description, unit and queries, as builders of Grafana's Foundation SDK.

Panels come in rows; `board.py` lays them out. `runbook` names a page of docs/runbooks that the panel links to.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, Self

from grafana_foundation_sdk.builders import bargauge, common, statetimeline, table, timeseries, xychart
from grafana_foundation_sdk.builders import dashboard as dashboards
from grafana_foundation_sdk.builders import prometheus as prom
from grafana_foundation_sdk.builders import stat as stats
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models import common as looks
from grafana_foundation_sdk.models import dashboard as models
from grafana_foundation_sdk.models import prometheus as prom_models
from grafana_foundation_sdk.models import xychart as xy_models

from charts.generator.values import home

SOURCE = looks.DataSourceRef(type_val="prometheus", uid="${datasource}")
TOKENS_PER_SECOND = "si:tok/s"
Thresholds = Sequence[tuple[float | None, str]]
"""(from this value on, colour); None for the lowest."""
GREEN: Thresholds = ((None, "green"),)


@dataclass(frozen=True)
class Query:
    """What a panel asks."""

    expr: str
    legend: str = ""
    instant: bool = False
    """Only the value at the end of the range."""


class Panel(Protocol):
    """What the SDK's panel builders share and this package sets."""

    def build(self) -> models.Panel: ...
    def id(self, id_val: int) -> Self: ...
    def title(self, title: str) -> Self: ...
    def description(self, description: str) -> Self: ...
    def datasource(self, datasource: looks.DataSourceRef) -> Self: ...
    def unit(self, unit: str) -> Self: ...
    def decimals(self, decimals: float) -> Self: ...
    def height(self, h: int) -> Self: ...
    def span(self, w: int) -> Self: ...
    def links(self, links: list[Builder[models.DashboardLink]]) -> Self: ...
    def thresholds(self, thresholds: Builder[models.ThresholdsConfig]) -> Self: ...
    def with_target(self, target: Any) -> Self: ...
    def grid_pos(self, grid_pos: models.GridPos) -> Self: ...


@dataclass(frozen=True)
class Row:
    """Panels under one heading."""

    title: str
    panels: Sequence[Panel]


def stat(
    title: str,
    description: str,
    unit: str,
    *queries: Query,
    thresholds: Thresholds = GREEN,
    runbook: str | None = None,
    names: bool = False,
    decimals: int | None = None,
    span: int = 4,
) -> Panel:
    """One number per series, as of now, with its name where a query gives one; the name alone with `names`."""
    shown = looks.BigValueTextMode.VALUE
    if any(query.legend for query in queries):
        shown = looks.BigValueTextMode.NAME if names else looks.BigValueTextMode.VALUE_AND_NAME
    panel = (
        stats.Panel()
        .graph_mode(looks.BigValueGraphMode.NONE)
        .color_mode(looks.BigValueColorMode.VALUE)
        .text_mode(shown)
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
        .height(4)
        .span(span)
        .no_value("no data")
    )
    if decimals is not None:
        panel.decimals(decimals)
    instant = [Query(query.expr, query.legend, instant=True) for query in queries]
    return _described(panel, title, description, unit, instant, thresholds, runbook)


def lines(
    title: str,
    description: str,
    unit: str,
    *queries: Query,
    thresholds: Thresholds = GREEN,
    runbook: str | None = None,
    stacked: bool = False,
    bars: bool = False,
    logarithmic: bool = False,
    most: float | None = None,
    span: int = 12,
) -> Panel:
    """Values over time; `most` is the top of the axis, thresholds are drawn as lines where there is more than one."""
    panel = (
        timeseries.Panel()
        .line_width(1)
        .fill_opacity(60 if stacked or bars else 5)
        .show_points(looks.VisibilityMode.NEVER)
        .span_nulls(False)
        .legend(
            common.VizLegendOptions()
            .display_mode(looks.LegendDisplayMode.LIST)
            .placement(looks.LegendPlacement.BOTTOM)
            .show_legend(True)
        )
        .tooltip(common.VizTooltipOptions().mode(looks.TooltipDisplayMode.MULTI).sort(looks.SortOrder.DESCENDING))
        .height(8)
        .span(span)
    )
    if stacked:
        panel.stacking(common.StackingConfig().mode(looks.StackingMode.NORMAL).group("A"))
    if bars:
        panel.draw_style(looks.GraphDrawStyle.BARS)
    if logarithmic:
        panel.scale_distribution(common.ScaleDistributionConfig().type(looks.ScaleDistribution.LOG).log(10))
    if most is not None:
        panel.min(0).max(most)
    if len(thresholds) > 1:
        panel.thresholds_style(common.GraphThresholdsStyleConfig().mode(looks.GraphThresholdsStyleMode.DASHED))
    return _described(panel, title, description, unit, queries, thresholds, runbook)


def amounts(title: str, description: str, unit: str, *queries: Query, height: int = 8) -> Panel:
    """A bar for each series, as of now."""
    panel = (
        bargauge.Panel()
        .orientation(looks.VizOrientation.HORIZONTAL)
        .display_mode(looks.BarGaugeDisplayMode.BASIC)
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
        .min(0)
        .height(height)
        .span(8)
    )
    instant = [Query(query.expr, query.legend, instant=True) for query in queries]
    return _described(panel, title, description, unit, instant, GREEN, None)


def states(title: str, description: str, *queries: Query) -> Panel:
    """A band for each series, coloured while its value is 1."""
    hidden = models.ValueMap(
        options={
            "0": models.ValueMappingResult(text=" ", color="transparent", index=0),
            "1": models.ValueMappingResult(text=" ", color="blue", index=1),
        }
    )
    panel = (
        statetimeline.Panel()
        .merge_values(True)
        .show_value(looks.VisibilityMode.NEVER)
        .row_height(0.8)
        .mappings([hidden])
        .legend(
            common.VizLegendOptions()
            .display_mode(looks.LegendDisplayMode.HIDDEN)
            .placement(looks.LegendPlacement.BOTTOM)
            .show_legend(False)
        )
        .height(7)
        .span(24)
    )
    return _described(panel, title, description, "none", queries, GREEN, None)


@dataclass(frozen=True)
class Column:
    """A column of a table of runs."""

    title: str
    unit: str
    expr: str


def rows(title: str, description: str, labels: str, *columns: Column, height: int = 9) -> Panel:
    """One row for each run: its name, which opens its dashboard, the labels that `labels` gives, then the columns."""
    panel = table.Panel().height(height).span(24)
    renamed = {}
    for number, expr in enumerate([labels, *(column.expr for column in columns)]):
        query = prom.Dataquery().expr(expr).instant().format(prom_models.PromQueryFormat.TABLE)
        panel.with_target(query.ref_id(_letter(number)))
    for number, column in enumerate(columns, start=1):
        renamed[f"Value #{_letter(number)}"] = column.title
        panel.override_by_name(column.title, [models.DynamicConfigValue("unit", column.unit)])
    link = {"title": "Open the run", "url": _RUN_URL, "targetBlank": False}
    panel.override_by_name("run", [models.DynamicConfigValue("links", [link])])
    panel.with_transformation(models.DataTransformerConfig("merge", options={}))
    # The value of the first query says nothing.
    organised = {"excludeByName": {"Time": True, "Value #A": True}, "renameByName": renamed, "indexByName": {}}
    panel.with_transformation(models.DataTransformerConfig("organize", options=organised))
    return _described(panel, title, description, "none", [], GREEN, None)


_RUN_URL = "/d/gpt-run-run?${datasource:queryparam}&var-run=${__data.fields.run}&${__url_time_range}"


def against(
    title: str, description: str, unit: str, across: str, x: str, y: str, *, logarithmic: bool = False
) -> Panel:
    """`y` over `x`, one curve for each run, whenever the runs ran. `across` is the unit of x.

    Both queries come back as tables. Merged by time and run they are rows (time, run, x, y); rows without an x or y are
    dropped, because the chart draws nothing as 0; then each run's rows become a frame of its own.
    """
    panel = xychart.Panel().height(10).span(12).mapping(xy_models.SeriesMapping.AUTO)
    for letter, expr in (("A", x), ("B", y)):
        panel.with_target(prom.Dataquery().expr(expr).range().format(prom_models.PromQueryFormat.TABLE).ref_id(letter))
    for transformer, options in _PER_RUN:
        panel.with_transformation(models.DataTransformerConfig(transformer, options=options))
    series = xychart.XYSeriesConfig().x(xychart.XychartXYSeriesConfigX().matcher(_column("A")))
    panel.series([series.y(xychart.XychartXYSeriesConfigY().matcher(_column("B")))])
    panel.show(xy_models.XYShowMode.LINES).line_width(2).axis_label(title)
    if logarithmic:
        panel.scale_distribution(common.ScaleDistributionConfig().type(looks.ScaleDistribution.LOG).log(10))
    panel.override_by_name("Value #A", [models.DynamicConfigValue("unit", across), *_LINEAR])
    return _described(panel, title, description, unit, [], GREEN, None)


_LINEAR = [
    models.DynamicConfigValue("custom.scaleDistribution", {"type": "linear"}),
    models.DynamicConfigValue("custom.axisLabel", "tokens"),
]
_NOTHING = {"id": "isNull", "options": {}}
_PER_RUN: list[tuple[str, dict[str, Any]]] = [
    ("merge", {}),
    ("organize", {"excludeByName": {"Time": True, "namespace": True}, "indexByName": {}, "renameByName": {}}),
    (
        "filterByValue",
        {
            "type": "exclude",
            "match": "any",
            "filters": [{"fieldName": f"Value #{letter}", "config": _NOTHING} for letter in "AB"],
        },
    ),
    ("partitionByValues", {"fields": ["run"], "keepFields": False, "naming": {"asLabels": True}}),
]


def _column(letter: str) -> xychart.MatcherConfig:
    """The values of a query, by the name that Grafana gives them where there are several."""
    return xychart.MatcherConfig().id("byName").options(f"Value #{letter}")


def _described(
    panel: Any,
    title: str,
    description: str,
    unit: str,
    queries: Sequence[Query],
    thresholds: Thresholds,
    runbook: str | None,
) -> Panel:
    panel.title(title).description(description).unit(unit).datasource(SOURCE)
    steps = [models.Threshold(value, colour) for value, colour in thresholds]
    panel.thresholds(dashboards.ThresholdsConfig().mode(models.ThresholdsMode.ABSOLUTE).steps(steps))
    for number, query in enumerate(queries):
        target = prom.Dataquery().expr(query.expr).legend_format(query.legend or "__auto").ref_id(_letter(number))
        panel.with_target(target.instant() if query.instant else target.range())
    if runbook:
        url = f"{home()}/blob/main/docs/runbooks/{runbook}.md"
        panel.links([dashboards.DashboardLink(f"Runbook: {runbook}").url(url).target_blank(True)])
    described: Panel = panel
    return described


def _letter(number: int) -> str:
    return "ABCDEFGHIJKLMNOPQRSTUVWXYZ"[number]
