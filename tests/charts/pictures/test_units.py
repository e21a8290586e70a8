"""charts/generator/pictures/units.py: numbers for readers."""

from __future__ import annotations

import pytest

from charts.generator.pictures.units import UNITS, written


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (0.4213, "percentunit", "42.1%"),
        (90, "s", "1.5 mins"),
        (0.95, "s", "950 ms"),
        (0, "s", "0 s"),
        (200_000, "si:tok/s", "200 ktok/s"),
        (2.448e9, "si:tok", "2.448 Gtok"),
        (70 * 2**30, "bytes", "70 GiB"),
        (2e9, "Bps", "2 GB/s"),
        (1_234_567.8, "locale", "1,234,567.80"),
        (1.5, "h", "1.5 hours"),
        (6e-4, "sci", "6.00e-04"),
        (12_000, "short", "12 K"),
        (1_000_000, "none", "1,000,000"),
    ],
)
def test_written(value: float, unit: str, text: str) -> None:
    assert written(value, unit) == text


def test_a_moment_is_a_distance_from_now() -> None:
    assert written(1_000_000, "dateTimeFromNow", now=940) == "in 1 mins"
    assert written(1_000_000, "dateTimeFromNow", now=1120) == "2 mins ago"


@pytest.mark.parametrize("unit", sorted(UNITS))
@pytest.mark.parametrize("value", [0.0, -1.5, 1e-9, 1e15])
def test_every_unit_takes_every_number(unit: str, value: float) -> None:
    assert written(value, unit)
