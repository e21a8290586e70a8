"""Runs a panel's queries against a Prometheus, with Grafana's variables filled in.

Prometheus' own HTTP API, over the standard library: an instant query for numbers and tables, a range query for curves.
"""

from __future__ import annotations

import json
import math
import re
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass
from typing import Any

Labels = dict[str, str]
_POINTS = 400
_TIMEOUT_SECONDS = 60


@dataclass(frozen=True)
class Span:
    """The range of a dashboard, Unix seconds."""

    since: float
    until: float
    scrape: float
    """Seconds between two scrapes."""

    @property
    def step(self) -> int:
        """Seconds between two points: a panel's width of them, no closer than the scrapes."""
        return max(1, math.ceil(max(self.scrape, (self.until - self.since) / _POINTS)))

    def moments(self) -> list[float]:
        """The points of a range query."""
        count = int((self.until - self.since) // self.step) + 1
        return [self.since + index * self.step for index in range(count)]


@dataclass(frozen=True)
class Series:
    """What one series of a query gave."""

    ref: str
    """The query's letter."""
    name: str
    labels: Labels
    points: list[tuple[float, float]]
    """(Unix seconds, value); one point of an instant query."""


@dataclass(frozen=True)
class Prometheus:
    """A server, a range, and the values of a dashboard's variables."""

    url: str
    span: Span
    variables: dict[str, str]

    def series(self, target: dict[str, Any], title: str) -> list[Series]:
        """All series of a panel's target. Raises OSError where the server is away or refuses the query."""
        found = self.instant(target["expr"]) if target.get("instant") else self.ranged(target["expr"])
        legend = target.get("legendFormat", "__auto")
        return [Series(target["refId"], _name(legend, labels, title), labels, points) for labels, points in found]

    def instant(self, expr: str) -> list[tuple[Labels, list[tuple[float, float]]]]:
        """The values at the end of the range."""
        result = self._ask("query", query=self.filled_in(expr), time=self.span.until)
        return [(item["metric"], _finite([item["value"]])) for item in result]

    def ranged(self, expr: str) -> list[tuple[Labels, list[tuple[float, float]]]]:
        """The values over the range."""
        start, end, step = self.span.since, self.span.until, self.span.step
        result = self._ask("query_range", query=self.filled_in(expr), start=start, end=end, step=step)
        return [(item["metric"], _finite(item["values"])) for item in result]

    def filled_in(self, expr: str) -> str:
        """A query with Grafana's variables and the dashboard's put in."""
        span = self.span
        values = {
            # Grafana's rule: four scrapes at least, so that a rate has two of them when one is late.
            "__rate_interval": f"{max(int(4 * span.scrape), span.step + math.ceil(span.scrape))}s",
            "__interval": f"{span.step}s",
            "__range": f"{int(span.until - span.since)}s",
            **self.variables,
        }
        return re.sub(r"\$([A-Za-z_]\w*)", lambda found: values[found[1]], expr)

    def _ask(self, what: str, **parameters: object) -> list[dict[str, Any]]:
        query = urllib.parse.urlencode(parameters).encode()
        request = urllib.request.Request(f"{self.url.rstrip('/')}/api/v1/{what}", data=query)  # noqa: S310  # the user's
        try:
            with urllib.request.urlopen(request, timeout=_TIMEOUT_SECONDS) as answer:  # noqa: S310  # the user's
                result: list[dict[str, Any]] = json.load(answer)["data"]["result"]
        except urllib.error.HTTPError as error:
            raise OSError(f"{parameters['query']}: {error.read().decode(errors='replace')}") from error
        return result


def _finite(values: list[list[Any]]) -> list[tuple[float, float]]:
    """Numbers of an answer, which come as texts; NaN is left out."""
    points = [(float(moment), float(text)) for moment, text in values]
    return [point for point in points if math.isfinite(point[1])]


def _name(legend: str, labels: Labels, title: str) -> str:
    if legend != "__auto":
        return re.sub(r"\{\{\s*(\w+)\s*\}\}", lambda found: labels.get(found[1], ""), legend).strip()
    return labels.get("run", title)
