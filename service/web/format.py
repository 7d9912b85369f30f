"""What the pages alone write, beside :mod:`trimtab.figures`. Plain functions, used as Jinja filters."""

from __future__ import annotations

from datetime import datetime

from trimtab.figures import NOTHING


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
