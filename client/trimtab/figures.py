"""How figures are written for people: the same in the terminal and on the dashboard."""

from __future__ import annotations

import math

from trimtab.wire.base import ParamValue

NOTHING = "–"
"""What stands where there is no value."""

DIGITS = 4
"""Significant digits of a shown number."""


def number(value: float | None) -> str:
    """Four significant digits: ``0.1234``, ``1.2e-4``, ``12,345``, ``NaN``, ``∞``."""
    if value is None:
        return NOTHING
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    magnitude = abs(value)
    if value == int(value) and magnitude < 1e7:
        return f"{value:,.0f}"
    if magnitude < 1e-3 or magnitude >= 1e7:
        mantissa, exponent = f"{value:.{DIGITS - 1}e}".split("e")
        return f"{_trimmed(mantissa)}e{int(exponent)}"
    places = max(DIGITS - 1 - math.floor(math.log10(magnitude)), 0)
    return f"{value:,.{places}f}"


def parameter(value: ParamValue | None) -> str:
    """A parameter's value; floats to four significant digits, with no zeros behind them."""
    if value is None:
        return NOTHING
    if not isinstance(value, float):
        return exact(value)
    mantissa, e, exponent = number(value).partition("e")
    return _trimmed(mantissa) + e + exponent


def exact(value: ParamValue | None) -> str:
    """A parameter's value with all its digits, as it can be used again."""
    if value is None:
        return NOTHING
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def integer(value: int | None) -> str:
    """A whole number with a comma between thousands."""
    return NOTHING if value is None else f"{value:,}"


def count(value: float | None) -> str:
    """A large number with its unit: ``7.2k``, ``430M``, ``1.5B``, ``20T``; three digits."""
    if value is None:
        return NOTHING
    for size, unit in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        # What rounds to 1,000 of a unit is 1 of the next.
        if abs(value) >= 0.9995 * size:
            return f"{value / size:.3g}{unit}"
    return f"{value:.3g}"


def span(values: tuple[float, float] | None) -> str:
    """The smallest and the largest of large numbers: ``60M to 1.1B``."""
    if values is None:
        return NOTHING
    low, high = count(values[0]), count(values[1])
    return low if low == high else f"{low} to {high}"


def percent(fraction: float) -> str:
    """``37%``; what is not nothing is at least ``<1%``, and what is not all is at most ``99%``."""
    if 0 < fraction < 0.01:
        return "<1%"
    return f"{100 if fraction >= 1 else min(round(fraction * 100), 99)}%"


def duration(seconds: float | None) -> str:
    """Two units at most: ``4 ms``, ``0.4 s``, ``12 s``, ``3 m 12 s``, ``2 h 5 m``, ``1 d 3 h``."""
    if seconds is None:
        return NOTHING
    if 0 < seconds < 0.1:
        return f"{max(round(seconds * 1000), 1)} ms"
    if seconds < 10:
        return f"{max(seconds, 0):.1f}".removesuffix(".0") + " s"
    whole = round(seconds)
    for size, name, below, below_name in (
        (86_400, "d", 3_600, "h"),
        (3_600, "h", 60, "m"),
        (60, "m", 1, "s"),
    ):
        if whole >= size:
            rest = whole % size // below
            return f"{whole // size} {name}" + (f" {rest} {below_name}" if rest else "")
    return f"{whole} s"


def spent(useful: int, trained: int, unit: str) -> str:
    """What a search by forks has cost: ``600 steps useful, 610 search, 1,210 in all``."""
    search = max(0, trained - useful)
    return f"{integer(useful)} {unit} useful, {integer(search)} search, {integer(trained)} in all"


def words(name: str) -> str:
    """An identifier as words: ``out_of_memory`` is ``out of memory``."""
    return name.replace("_", " ")


def _trimmed(digits: str) -> str:
    return digits.rstrip("0").rstrip(".") if "." in digits else digits
