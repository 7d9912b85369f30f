"""How numbers, durations and moments are written on the pages. Plain functions, used as Jinja filters."""

from __future__ import annotations

import math
from datetime import datetime

from trimtab.wire.base import ParamValue

NOTHING = "–"
"""What stands where there is no value."""


def number(value: float | None) -> str:
    """Four significant digits: ``0.1234``, ``1.2e-4``, ``12,345``, ``NaN``, ``∞``."""
    if value is None:
        return NOTHING
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    return _finite(value, 4)


def parameter(value: ParamValue | None) -> str:
    """A parameter's value; floats with six significant digits and no zeros behind them."""
    if value is None:
        return NOTHING
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        mantissa, e, exponent = _finite(value, 6).partition("e")
        return (mantissa.rstrip("0").rstrip(".") if "." in mantissa else mantissa) + e + exponent
    return str(value)


def integer(value: int | None) -> str:
    """A whole number with a comma between thousands."""
    return NOTHING if value is None else f"{value:,}"


def percent(fraction: float) -> str:
    """``37 %``; a part of a percent shows as ``<1 %``, and 100 % only when all is used."""
    shown = fraction * 100
    if 0 < shown < 1:
        return "<1 %"
    return f"{min(math.floor(shown), 99) if shown < 100 else 100} %"


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


def size(count: int | None) -> str:
    """A number of bytes in binary units."""
    if count is None:
        return NOTHING
    amount = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if amount < 1024:
            return f"{amount:.3g} {unit}" if amount < 1000 else f"{amount:.0f} {unit}"
        amount /= 1024
    return f"{amount:,.3g} TiB"


def relative(moment: datetime, now: datetime) -> str:
    """How long ago: ``just now``, ``5 m ago``, ``3 d ago``."""
    seconds = (now - moment).total_seconds()
    if seconds < 5:
        return "just now"
    for unit, name in ((86_400, "d"), (3_600, "h"), (60, "m")):
        if seconds >= unit:
            return f"{int(seconds // unit)} {name} ago"
    return f"{int(seconds)} s ago"


def words(name: str) -> str:
    """An identifier as words: ``out_of_memory`` is ``out of memory``."""
    return name.replace("_", " ")


def _finite(value: float, digits: int) -> str:
    if value == 0:
        return "0"
    magnitude = abs(value)
    if magnitude < 1e-3 or magnitude >= 1e7:
        mantissa, exponent = f"{value:.{digits - 1}e}".split("e")
        mantissa = mantissa.rstrip("0").rstrip(".") if "." in mantissa else mantissa
        return f"{mantissa}e{int(exponent)}"
    places = max(digits - 1 - math.floor(math.log10(magnitude)), 0)
    text = f"{value:,.{places}f}"
    if value == int(value):
        return f"{value:,.0f}"
    return text
