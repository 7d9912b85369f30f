"""From a table of runs, or the trials of studies, to :class:`~search.laws.base.Runs`.

The caller has read the file (JSON, CSV, Parquet) into columns; here they are given their roles, checked and
put into the units of :mod:`search.laws.base`. Every mistake is found in one go: pointers are
``/columns/<role>`` for what is wrong with the naming of columns and ``/runs/<index>/<column>`` for a cell;
messages count rows from 1, without a header.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from search.errors import Mistake, SearchError, did_you_mean, pointer
from search.laws import units
from search.laws.base import Array, Runs

NUMBERS = ("n", "d", "lr", "batch", "loss", "share", "sequence_length")
CONDITIONS = ("schedule", "optimizer", "sequence_length", "tokenizer")
ROLES = tuple(dict.fromkeys((*NUMBERS, "diverged", *CONDITIONS)))
REQUIRED = ("n", "d", "loss")

FAR_ABOVE = 2.0
"""A loss more than so many times the lowest of its cell, at a learning rate above that of the lowest, is a
divergence that did not reach NaN. (In the Step Law's data hardly a loss is between 1.3 and 2.2 times.)"""

_WORDS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False, "": False}


def runs_from_columns(
    columns: Mapping[str, Sequence[Any]],
    roles: Mapping[str, str],
    *,
    batch_unit: Literal["tokens", "sequences"] | None = None,
    sequence_length: int | None = None,
) -> Runs:
    """The runs of a table.

    ``columns``: name to cells, all of one length; numbers may be text. ``roles``: role (of ``ROLES``; n, d
    and loss are needed) to the name of its column. ``batch_unit``: ``sequences`` needs a
    ``sequence_length``, here or as a column. Without a unit batches are taken for tokens, and what cannot
    be tokens is refused; who says ``tokens`` gets a caution instead.

    A run has diverged if the column ``diverged`` says so, if its loss is NaN, infinite or missing, or by
    ``FAR_ABOVE``. Raises SearchError with every mistake.
    """
    mistakes = _naming(columns, roles, batch_unit, sequence_length)
    if mistakes:
        raise SearchError(mistakes)
    rows = len(columns[roles["n"]])
    numbers = {
        role: _numbers(columns[roles[role]], role, roles[role], mistakes)
        for role in NUMBERS
        if role in roles
    }
    said = _said_diverged(columns, roles, mistakes)
    if mistakes:
        raise SearchError(mistakes)
    empty = np.full(rows, np.nan)
    batch = numbers.get("batch", empty)
    if batch_unit == "sequences":
        batch = batch * (numbers["sequence_length"] if sequence_length is None else float(sequence_length))
    lost = ~np.isfinite(numbers["loss"])
    if said is not None:
        for row in np.flatnonzero(lost & ~said & np.isnan(numbers["loss"])):
            mistakes.append(_cell(int(row), roles["loss"], "has no loss, but is not said to have diverged"))
        lost |= said
    runs = Runs(
        n=numbers["n"],
        d=numbers["d"],
        lr=numbers.get("lr", empty),
        batch=batch,
        loss=numbers["loss"],
        share=numbers.get("share"),
        conditions=_conditions(columns, roles, sequence_length),
    )
    mistakes += _illegal(runs, lost, roles)
    if mistakes:
        raise SearchError(mistakes[:50])
    lost |= _far_above(runs, lost)
    if lost.all():
        raise SearchError(
            [
                Mistake(
                    "/runs",
                    f"all {rows} runs diverged",
                    "add runs at lower learning rates; a law needs losses",
                )
            ]
        )
    wrong, cautions = units.check(_take(runs, ~lost), batch_unit)
    if wrong:
        raise SearchError(wrong)
    gone = {name: getattr(runs, name)[lost] for name in ("n", "d", "lr", "batch")}
    kept = replace(_take(runs, ~lost), diverged=gone, cautions=cautions)
    if len(set(zip(kept.n, kept.d, strict=True))) < 2:
        raise SearchError(
            [
                Mistake(
                    "/runs",
                    f"there is one cell only, N {kept.n[0]:.4g} and D {kept.d[0]:.4g}"
                    + (f" ({int(lost.sum())} diverged runs not counted)" if lost.any() else ""),
                    "a law needs runs at several model sizes and numbers of tokens",
                )
            ]
        )
    return kept


def columns_from_trials(
    trials: Sequence[Mapping[str, Any]], roles: Mapping[str, str]
) -> dict[str, list[Any]]:
    """Columns for :func:`runs_from_columns`, from the trials of one or more studies.

    Each trial is plain data, such as ``{"params": {...}, "metrics": {...}, "settings": {...}}``. A role
    names a path, as in ``params/lr`` or ``metrics/val_loss``, or a product of paths and numbers, as in
    ``metrics/steps * settings/batch_size * 64``. The columns are called as the roles say. A value that a
    trial does not have is None; a path that no trial has is a mistake.
    """
    mistakes: list[Mistake] = []
    columns: dict[str, list[Any]] = {}
    known = {path for trial in trials for path in _paths(trial)}
    for role, expression in roles.items():
        factors = [factor.strip() for factor in expression.split("*")]
        for factor in factors:
            if _as_number(factor) is None and factor not in known:
                mistakes.append(
                    Mistake(
                        pointer("columns", role), f"no trial has {factor!r}", did_you_mean(factor, known)
                    )
                )
        columns[expression] = [_product([_value(trial, factor) for factor in factors]) for trial in trials]
    if not trials:
        mistakes.append(Mistake("/runs", "there are no trials", "name studies that have finished trials"))
    if mistakes:
        raise SearchError(mistakes)
    return columns


def _naming(
    columns: Mapping[str, Sequence[Any]],
    roles: Mapping[str, str],
    batch_unit: str | None,
    sequence_length: int | None,
) -> list[Mistake]:
    mistakes = [
        Mistake(pointer("columns", role), f"there is no role {role!r}", did_you_mean(role, ROLES))
        for role in roles
        if role not in ROLES
    ]
    for role in REQUIRED:
        if role not in roles:
            mistakes.append(
                Mistake(
                    pointer("columns", role), "is missing", f"say which column has it: {', '.join(columns)}"
                )
            )
    for role, name in roles.items():
        if name not in columns:
            mistakes.append(
                Mistake(
                    pointer("columns", role),
                    f"the table has no column {name!r}",
                    did_you_mean(name, columns),
                )
            )
    if batch_unit not in (None, "tokens", "sequences"):
        mistakes.append(Mistake("/batch_unit", f"is {batch_unit!r}", "tokens or sequences"))
    if batch_unit == "sequences" and sequence_length is None and "sequence_length" not in roles:
        mistakes.append(
            Mistake("/sequence_length", "is missing", "tokens in a sequence, as a number or a column")
        )
    if sequence_length is not None and sequence_length < 1:
        mistakes.append(Mistake("/sequence_length", f"is {sequence_length}", "at least 1"))
    lengths = {name: len(columns[name]) for name in dict.fromkeys(roles.values()) if name in columns}
    if len(set(lengths.values())) > 1:
        told = ", ".join(f"{name} {length}" for name, length in lengths.items())
        mistakes.append(Mistake("/runs", f"columns differ in length: {told}", "one cell for each run"))
    elif 0 in lengths.values():
        mistakes.append(Mistake("/runs", "there are no runs"))
    return mistakes


def _numbers(cells: Sequence[Any], role: str, column: str, mistakes: list[Mistake]) -> Array:
    """NaN stands for an empty cell; text that is no number is a mistake."""
    values = np.full(len(cells), np.nan)
    wrong: list[int] = []
    for row, cell in enumerate(cells):
        if cell is None or (isinstance(cell, str) and not cell.strip()):
            continue
        number = _as_number(cell)
        if number is None:
            wrong.append(row)
        else:
            values[row] = number
    if wrong:
        more = f" (and {len(wrong) - 1} more)" if len(wrong) > 1 else ""
        mistakes.append(
            _cell(
                wrong[0], column, f"{cells[wrong[0]]!r} is not a number{more}", f"column {column} is {role}"
            )
        )
    return values


def _as_number(cell: Any) -> float | None:
    if isinstance(cell, bool | np.bool_):
        return None
    try:
        return float(cell)
    except (TypeError, ValueError):
        return None


def _said_diverged(
    columns: Mapping[str, Sequence[Any]], roles: Mapping[str, str], mistakes: list[Mistake]
) -> NDArray[np.bool_] | None:
    if "diverged" not in roles:
        return None
    cells = columns[roles["diverged"]]
    said = np.zeros(len(cells), dtype=bool)
    for row, cell in enumerate(cells):
        word = "" if cell is None else str(cell).strip().lower().removesuffix(".0")
        if word in _WORDS:
            said[row] = _WORDS[word]
        else:
            mistakes.append(_cell(row, roles["diverged"], f"{cell!r} is neither true nor false"))
            break
    return said


def _illegal(runs: Runs, lost: NDArray[np.bool_], roles: Mapping[str, str]) -> list[Mistake]:
    """Cells that are missing, infinite, zero or negative; one mistake for each column."""
    found: list[Mistake] = []
    for role in ("n", "d", "lr", "batch", "loss", "share"):
        values: Array | None = getattr(runs, role)
        if role not in roles or values is None:
            continue
        positive = role != "share"
        bad = ~np.isfinite(values) | ((values <= 0) if positive else (values < 0) | (values > 1))
        if role == "loss":
            bad &= ~lost
        rows = np.flatnonzero(bad)
        if not len(rows):
            continue
        value, more = values[rows[0]], f" (and {len(rows) - 1} more)" if len(rows) > 1 else ""
        hint = "it must be above 0" if positive else "a share is between 0 and 1"
        if role == "share" and 1 < np.nanmax(values) <= 100:
            hint += "; are these per cent?"
        if role == "lr" and value < 0:
            hint += "; are these logarithms?"
        said = "is missing" if np.isnan(value) else f"is {value:g}"
        found.append(_cell(int(rows[0]), roles[role], f"{said}{more}", hint))
    return found


def _far_above(runs: Runs, lost: NDArray[np.bool_]) -> NDArray[np.bool_]:
    far = np.zeros(len(runs), dtype=bool)
    if np.isnan(runs.lr).all():
        return far
    _, cells = np.unique(np.column_stack([runs.n, runs.d]), axis=0, return_inverse=True)
    for cell in np.unique(cells):
        rows = np.flatnonzero((cells == cell) & ~lost)
        if len(rows):
            best = rows[np.argmin(runs.loss[rows])]
            far[rows] = (runs.loss[rows] > FAR_ABOVE * runs.loss[best]) & (runs.lr[rows] > runs.lr[best])
    return far


def _conditions(
    columns: Mapping[str, Sequence[Any]], roles: Mapping[str, str], sequence_length: int | None
) -> dict[str, tuple[str, ...]]:
    seen = {
        role: tuple(sorted({str(cell) for cell in columns[roles[role]] if cell not in (None, "")}))
        for role in CONDITIONS
        if role in roles
    }
    if sequence_length is not None:
        seen["sequence_length"] = (str(sequence_length),)
    return seen


def _take(runs: Runs, rows: NDArray[np.bool_]) -> Runs:
    return replace(
        runs,
        n=runs.n[rows],
        d=runs.d[rows],
        lr=runs.lr[rows],
        batch=runs.batch[rows],
        loss=runs.loss[rows],
        share=None if runs.share is None else runs.share[rows],
    )


def _cell(row: int, column: str, message: str, hint: str = "") -> Mistake:
    return Mistake(pointer("runs", row, column), f"row {row + 1}, column {column}: {message}", hint)


def _paths(data: Mapping[str, Any], before: str = "") -> Iterable[str]:
    for name, value in data.items():
        if isinstance(value, Mapping):
            yield from _paths(value, f"{before}{name}/")
        else:
            yield f"{before}{name}"


def _value(trial: Mapping[str, Any], factor: str) -> Any:
    number = _as_number(factor)
    if number is not None:
        return number
    found: Any = trial
    for part in factor.split("/"):
        found = found.get(part) if isinstance(found, Mapping) else None
    return found


def _product(values: Sequence[Any]) -> Any:
    """One value as it is; of several the product, None if one is missing or no number."""
    if len(values) == 1:
        return values[0]
    numbers = [_as_number(value) for value in values]
    return None if None in numbers else math.prod(number for number in numbers if number is not None)
