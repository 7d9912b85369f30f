"""What a framework reports, reduced to what Trimtab takes."""

from __future__ import annotations

from collections.abc import Mapping

from trimtab import run_folder


def numbers(reported: Mapping[str, object], *, leave_out: frozenset[str] = frozenset()) -> dict[str, float]:
    """The numbers among ``reported`` (tensors and numpy scalars included) whose names a metric can have."""
    found: dict[str, float] = {}
    for name, value in reported.items():
        if name in leave_out or isinstance(value, (bool, str)) or not run_folder.is_metric_name(name):
            continue
        try:
            found[name] = float(value)  # type: ignore[arg-type]
        except (TypeError, ValueError, RuntimeError):
            continue  # a list, a dictionary, a tensor of many numbers
    return found
