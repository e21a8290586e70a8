"""Makes a dashboard of rows of panels: variables, annotations, links to the other dashboards, places on the grid."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from grafana_foundation_sdk.builders import dashboard as dashboards
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import common as looks
from grafana_foundation_sdk.models import dashboard as models

from charts.generator.dashboards import queries
from charts.generator.dashboards.panels import SOURCE, Row

_WIDTH = 24
_TAG = "gpt-run"
# Grafana's number for a variable's query that is given as text, such as label_values(...).
_TYPED_BY_HAND = 5
# Grafana's own marks, which every dashboard has to list.
_GRAFANA = looks.DataSourceRef(type_val="grafana", uid="-- Grafana --")


@dataclass(frozen=True)
class Variable:
    """A choice at the top of a dashboard."""

    name: str
    label: str
    query: str
    several: bool = False
    """Any number may be chosen; all of them are at first."""
    regex: str = ""


NAMESPACE = Variable("namespace", "Namespace", "label_values(trainer_attempt, namespace)", several=True)
RUN = Variable("run", "Run", 'label_values(trainer_attempt{namespace=~"$namespace"}, run)')
RUNS = Variable("run", "Runs", RUN.query, several=True)


@dataclass(frozen=True)
class Board:
    """One dashboard."""

    uid: str
    title: str
    description: str
    variables: Sequence[Variable]
    rows: Sequence[Row]
    marked: str = ""
    """Selector of the runs whose attempts, checkpoints and changes of size are marked; empty for no marks."""
    since: str = "now-6h"


def dashboard_text(board: Board) -> str:
    """The dashboard as Grafana reads it."""
    built = (
        dashboards.Dashboard(board.title)
        .uid(board.uid)
        .description(board.description)
        .tags([_TAG])
        .time(board.since, "now")
        .refresh("30s")
        .timezone("browser")
        .tooltip(models.DashboardCursorSync.CROSSHAIR)
        .readonly()
        .with_variable(_source())
        .link(_links())
        .annotation(_own_marks())
    )
    for variable in board.variables:
        built.with_variable(_variable(variable))
    for annotation in _marks(board.marked) if board.marked else []:
        built.annotation(annotation)
    result = built.build()
    result.panels = _placed(board.rows)
    return json.dumps(result, cls=JSONEncoder, indent=2) + "\n"


def _placed(rows: Sequence[Row]) -> list[models.Panel | models.RowPanel]:
    """All panels with an id and a place: rows of the grid are filled from the left."""
    placed: list[models.Panel | models.RowPanel] = []
    top = 0
    for row in rows:
        heading = models.RowPanel(
            id_val=len(placed) + 1, title=row.title, grid_pos=models.GridPos(x=0, y=top, w=_WIDTH, h=1), panels=[]
        )
        placed.append(heading)
        top += 1
        left = tallest = 0
        for panel in (builder.build() for builder in row.panels):
            assert panel.grid_pos is not None
            if left + panel.grid_pos.w > _WIDTH:
                top, left, tallest = top + tallest, 0, 0
            panel.grid_pos.x, panel.grid_pos.y, panel.id_val = left, top, len(placed) + 1
            left, tallest = left + panel.grid_pos.w, max(tallest, panel.grid_pos.h)
            placed.append(panel)
        top += tallest
    return placed


def _source() -> dashboards.DatasourceVariable:
    return dashboards.DatasourceVariable("datasource").label("Prometheus").type("prometheus")


def _variable(variable: Variable) -> dashboards.QueryVariable:
    # Everything is `.*`, so that series without the label are found too: outside a cluster none has a namespace.
    query: dict[str, object] = {"query": variable.query, "refId": variable.name, "qryType": _TYPED_BY_HAND}
    built = (
        dashboards.QueryVariable(variable.name)
        .label(variable.label)
        .datasource(SOURCE)
        .query(query)
        .definition(variable.query)
        .regex(variable.regex)
        .refresh(models.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(models.VariableSort.ALPHABETICAL_ASC)
    )
    if variable.several:
        built.multi(True).include_all(True).all_value(".*").current(models.VariableOption(text="All", value="$__all"))
    return built


def _links() -> dashboards.DashboardLink:
    """A menu of all dashboards of the product, which keeps the range and the variables."""
    return (
        dashboards.DashboardLink("gpt-run")
        .type(models.DashboardLinkType.DASHBOARDS)
        .tags([_TAG])
        .as_dropdown(True)
        .keep_time(True)
        .include_vars(True)
    )


def _own_marks() -> dashboards.AnnotationQuery:
    return (
        dashboards.AnnotationQuery()
        .name("Annotations & Alerts")
        .datasource(_GRAFANA)
        .enable(True)
        .hide(True)
        .icon_color("rgba(0, 211, 255, 1)")
        .built_in(1)
        .type("dashboard")
    )


def _marks(selector: str) -> list[dashboards.AnnotationQuery]:
    """Attempts, changes of size and checkpoints. The last are the timestamps that the metric's values are."""
    attempts = _mark("Attempts", "orange", queries.changed("trainer_attempt", selector), "New attempt of {{run}}")
    sizes = _mark("Scale", "purple", queries.changed("trainer_world_size", selector), "World size of {{run}} changed")
    saved = queries.newest("trainer_checkpoint_last_timestamp_seconds", selector)
    checkpoints = _mark("Checkpoints", "green", f"{saved} * 1000", "Checkpoint of {{run}}").use_value_for_time(True)
    return [attempts, sizes, checkpoints]


def _mark(name: str, colour: str, expr: str, title: str) -> dashboards.AnnotationQuery:
    return (
        dashboards.AnnotationQuery()
        .name(name)
        .datasource(SOURCE)
        .enable(True)
        .icon_color(colour)
        .expr(expr)
        .title_format(title)
    )
