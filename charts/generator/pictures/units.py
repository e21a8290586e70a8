"""Numbers as Grafana writes them, for the units that the dashboards use."""

from __future__ import annotations

from collections.abc import Callable

_SI = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))
_IEC = ((2.0**40, "Ti"), (2.0**30, "Gi"), (2.0**20, "Mi"), (2.0**10, "Ki"))
_SHORT = ((1e12, " Tri"), (1e9, " Bil"), (1e6, " Mil"), (1e3, " K"))
_TIME = ((86400 * 7, "weeks"), (86400, "days"), (3600, "hours"), (60, "mins"), (1, "s"), (1e-3, "ms"), (1e-6, "µs"))


def written(value: float, unit: str, now: float = 0.0) -> str:
    """`value` of `unit` for a reader; `now` in Unix seconds, for moments."""
    if unit.startswith("si:"):
        return _scaled(value, _SI, f" {{}}{unit[3:]}")
    return _WRITERS[unit](value, now)


def _scaled(value: float, steps: tuple[tuple[float, str], ...], form: str) -> str:
    factor, prefix = next(((factor, prefix) for factor, prefix in steps if abs(value) >= factor), (1.0, ""))
    return f"{_number(value / factor)}{form.format(prefix)}"


def _duration(value: float) -> str:
    factor, name = next(((factor, name) for factor, name in _TIME if abs(value) >= factor), (1.0, "s"))
    return f"{_number(value / factor)} {name}"


def _moment(value: float, now: float) -> str:
    """Milliseconds since 1970 as a distance from now."""
    distance = value / 1000 - now
    return f"in {_duration(distance)}" if distance >= 0 else f"{_duration(-distance)} ago"


def _number(value: float) -> str:
    return f"{value:.4g}" if abs(value) < 1e5 else f"{value:,.0f}"


_WRITERS: dict[str, Callable[[float, float], str]] = {
    "none": lambda value, _: _number(value),
    "short": lambda value, _: _scaled(value, _SHORT, "{}"),
    "percentunit": lambda value, _: f"{value * 100:.1f}%",
    "s": lambda value, _: _duration(value),
    "h": lambda value, _: _duration(value * 3600),
    "dateTimeFromNow": _moment,
    "bytes": lambda value, _: _scaled(value, _IEC, " {}B"),
    "Bps": lambda value, _: _scaled(value, _SI, " {}B/s"),
    "sci": lambda value, _: f"{value:.2e}",
    "locale": lambda value, _: f"{value:,.2f}",
    "watt": lambda value, _: _scaled(value, _SI, " {}W"),
    "celsius": lambda value, _: f"{_number(value)} °C",
    "hertz": lambda value, _: _scaled(value, _SI, " {}Hz"),
}
UNITS = frozenset(_WRITERS)
"""All units that can be written, besides those that begin with `si:`."""
