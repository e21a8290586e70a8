"""The dashboards' queries: PromQL of Prometheus 2.42 that names only series that exist."""

from __future__ import annotations

import re
from typing import Any

import promql_parser
import pytest

from charts.generator.pictures.prometheus import Prometheus, Span
from tests.charts.dashboards.names import TRAINER, all_names
from tests.charts.dashboards.test_boards import BOARDS, PANELS

# Functions and operators that came after 2.42.
NEWER = re.compile(
    r"\b(limitk|limit_ratio|sort_by_label|mad_over_time|histogram_avg|histogram_stddev|info|double_exp)\b"
)
QUERIES = {
    f"{name} {target['refId']}": (name.split(":")[0], target["expr"])
    for name, panel in PANELS.items()
    for target in panel["targets"]
} | {
    f"{uid}: mark {item['name']}": (uid, item["expr"])
    for uid, board in BOARDS.items()
    for item in board["annotations"]["list"]
    if "expr" in item
}


def names_of(uid: str) -> set[str]:
    return {item["name"] for item in BOARDS[uid]["templating"]["list"]} - {"datasource"}


def parsed(uid: str, expr: str) -> Any:
    variables = dict.fromkeys(names_of(uid), "x")
    return promql_parser.parse(Prometheus("", Span(0, 3600, 15), variables).filled_in(expr))


def selectors(node: Any) -> list[Any]:
    """All series that a query names."""
    if isinstance(node, promql_parser.VectorSelector):
        return [node]
    inner = [getattr(node, name, None) for name in ("expr", "lhs", "rhs", "vector_selector", "vs", "param")]
    inner += list(getattr(node, "args", []) or [])
    return [found for child in inner if child is not None for found in selectors(child)]


@pytest.mark.parametrize(("uid", "expr"), QUERIES.values(), ids=QUERIES)
def test_it_is_promql_about_series_that_exist(uid: str, expr: str) -> None:
    found = selectors(parsed(uid, expr))
    assert found
    assert {selector.name for selector in found} == set(re.findall(r"\b(?:trainer|gptrun|DCGM|node)_\w+", expr))
    assert {selector.name for selector in found} <= all_names()
    assert not NEWER.search(expr)


@pytest.mark.parametrize(("uid", "expr"), QUERIES.values(), ids=QUERIES)
def test_it_asks_for_the_chosen_runs_alone(uid: str, expr: str) -> None:
    for selector in selectors(parsed(uid, expr)):
        if selector.name in TRAINER:
            assert {matcher.name for matcher in selector.matchers.matchers} >= {"run", "namespace"}, selector.name


@pytest.mark.parametrize(("uid", "expr"), QUERIES.values(), ids=QUERIES)
def test_labels_that_it_sorts_by_are_those_of_its_series(uid: str, expr: str) -> None:
    known = {"namespace", "run", *(label for labels in TRAINER.values() for label in labels)}
    known |= {"Hostname", "clock_event", "xid", "instance", "nodename", "action", "outcome"}
    used = {label.strip() for group in re.findall(r"(?:by|on) \(([^)]*)\)", expr) for label in group.split(",")}
    assert used - {""} <= known


@pytest.mark.parametrize("uid", BOARDS)
def test_variables_name_series_that_exist(uid: str) -> None:
    for item in BOARDS[uid]["templating"]["list"]:
        if item["type"] == "query":
            series = re.findall(r"\b(?:trainer|gptrun|DCGM|node)_\w+\b(?=[{,)])", item["query"]["query"])
            assert series
            assert set(series) <= all_names()


def test_the_parser_refuses_what_is_no_promql() -> None:
    with pytest.raises(ValueError, match="ranges only allowed for vector selectors"):
        promql_parser.parse("increase(label_replace(a, 'b', '', 'c', '')[5m])")
