"""Between the wire and the laws of search: from a request to runs, from a stored law to answers."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from search.errors import Mistake, SearchError
from search.laws import table as law_table
from search.laws.base import Caution as FoundCaution
from search.laws.base import Fitted, Interval, Runs
from service import tables
from service.db.fits import NewFit
from service.db.reads.fit_trials import FitTrials
from service.errors import InvalidError
from service.tables import Table
from trimtab.wire.laws import Caution, FitCounts, FitRequest, FitSource, Range
from trimtab.wire.problems import FieldProblem

_ARRAYS = ("n", "d", "lr", "batch", "loss", "share")
_CELL = re.compile(r"^/runs/(\d+)/(.+)$")
_PATHS = ("params", "settings", "metrics")
_MOST_PROBLEMS = 20


def read(request: FitRequest, trials_of: Callable[[Sequence[str]], FitTrials]) -> NewFit:
    """The runs that a request names, checked.

    ``trials_of``: reads the trials of studies. Raises :class:`InvalidError` with every mistake; of a CSV
    file they name lines, of studies trials.
    """
    kind: Literal["table", "csv", "parquet", "studies"] = "table"
    roles, left_out = request.columns.named, 0
    trials: list[dict[str, Any]] = []
    try:
        if request.studies:
            kind = "studies"
            found = trials_of(request.studies)
            trials, left_out = found.trials, found.left_out
            roles = _paths_of(trials, {"d": "tokens", "loss": f"metrics/{found.metric}", **roles})
            read_from = Table(dict(law_table.columns_from_trials(trials, roles)))
            roles = dict(roles)
        elif request.csv:
            kind, read_from = "csv", tables.read_csv(request.csv)
        elif request.parquet:
            kind, read_from = "parquet", tables.read_parquet(request.parquet)
        else:
            read_from = tables.checked(request.table or {})
        if kind != "studies":
            roles = {"n": "N", "d": "D", "loss": "loss", **roles}
        runs = law_table.runs_from_columns(
            read_from.columns,
            roles,
            batch_unit=request.batch_unit,
            sequence_length=request.sequence_length,
        )
    except SearchError as error:
        place = _Places(kind, trials, read_from.lines if kind == "csv" else ())
        raise invalid("The runs cannot be fitted.", error, place) from None
    source = FitSource(
        kind=kind,
        studies=list(request.studies),
        columns=roles,
        batch_unit=request.batch_unit,
        sequence_length=request.sequence_length,
    )
    return NewFit(request, source, _counts(runs, left_out), runs_to_json(runs))


def runs_to_json(runs: Runs) -> dict[str, Any]:
    """Plain JSON, with null for what is not finite."""
    return {
        "runs": {name: _list(getattr(runs, name)) for name in _ARRAYS if getattr(runs, name) is not None},
        "diverged": {name: _list(values) for name, values in runs.diverged.items()},
        "conditions": {name: list(values) for name, values in runs.conditions.items()},
        "cautions": [caution(found).model_dump() for found in runs.cautions],
    }


def runs_from_json(data: Mapping[str, Any]) -> Runs:
    """The inverse of :func:`runs_to_json`."""
    own = {name: _array(values) for name, values in data["runs"].items()}
    return Runs(
        **own,
        diverged={name: _array(values) for name, values in data["diverged"].items()},
        conditions={name: tuple(values) for name, values in data["conditions"].items()},
        cautions=tuple(FoundCaution(**found) for found in data["cautions"]),
    )


def checks(law: Fitted, runs: Runs) -> dict[str, Any]:
    """What is told of a fit beside its family's own summary: what it would have cost in cells left out."""
    from search.laws.held_out import held_out
    from search.laws.optimum_law import OptimumLaw

    cells = held_out(law, runs) if isinstance(law, OptimumLaw) else ()
    if not cells:
        return {}
    names = cells[0].excess
    return {
        "held_out": {
            "mean": {name: float(np.mean([cell.excess[name] for cell in cells])) for name in names},
            "cells": [{"n": cell.n, "d": cell.d, "excess": dict(cell.excess)} for cell in cells],
        }
    }


def caution(found: FoundCaution) -> Caution:
    return Caution(code=found.code, message=found.message, grave=found.grave)


def interval(found: Interval | None) -> Range | None:
    return None if found is None else Range(low=found.low, value=found.value, high=found.high)


def invalid(
    detail: str, error: SearchError, place: Callable[[Mistake], FieldProblem] | None = None
) -> InvalidError:
    """What search says against a request, at the fields of the request."""
    return InvalidError(
        detail, [(place or _as_it_is)(mistake) for mistake in error.mistakes[:_MOST_PROBLEMS]]
    )


@dataclass(frozen=True, slots=True)
class _Places:
    """Where in a request the mistake of a run stands."""

    kind: str
    trials: Sequence[Mapping[str, Any]]
    lines: Sequence[int]

    def __call__(self, mistake: Mistake) -> FieldProblem:
        pointer, message = mistake.pointer, mistake.message
        cell = _CELL.match(pointer)
        if cell is not None:
            row, column = int(cell[1]), cell[2]
            told = f"row {row + 1}, "
            if self.kind == "csv":
                pointer, message = "/csv", message.replace(told, f"line {self.lines[row]}, ", 1)
            elif self.kind == "studies":
                trial = self.trials[row]
                who = f"trial {trial['trial']} of {trial['study']}, "
                pointer, message = "/studies", message.replace(told, who, 1)
            else:
                pointer = f"/table/{column}/{row}" if self.kind == "table" else "/parquet"
        elif pointer == "/runs":
            pointer = f"/{self.kind}"
        return FieldProblem(pointer=pointer, message=message, suggestion=mistake.suggestion)


def _as_it_is(mistake: Mistake) -> FieldProblem:
    return FieldProblem(pointer=mistake.pointer, message=mistake.message, suggestion=mistake.suggestion)


def _paths_of(trials: Sequence[Mapping[str, Any]], roles: Mapping[str, str]) -> dict[str, str]:
    """The expressions of ``roles`` with plain names as paths, such as ``lr`` as ``params/lr``.

    Raises :class:`SearchError` for a role that is not named, and for a name that several places have.
    """
    mistakes: list[Mistake] = []
    known: dict[str, list[str]] = {}
    for place in _PATHS:
        for name in dict.fromkeys(name for trial in trials for name in trial[place]):
            known.setdefault(name, []).append(f"{place}/{name}")
    if "n" not in roles:
        names = ", ".join(path for paths in known.values() for path in paths)
        hint = f"name a parameter, setting or metric that counts parameters, or a product: {names}"
        mistakes.append(Mistake("/columns/n", "is missing", hint[:500]))
    found: dict[str, str] = {}
    for role, expression in roles.items():
        factors = []
        for factor in (part.strip() for part in expression.split("*")):
            paths = known.get(factor, [])
            if len(paths) > 1:
                mistakes.append(
                    Mistake(f"/columns/{role}", f"{factor!r} may be {' or '.join(paths)}", "write which")
                )
            factors.append(paths[0] if paths else factor)
        found[role] = " * ".join(factors)
    if mistakes:
        raise SearchError(mistakes)
    if any(trial["diverged"] for trial in trials):
        found.setdefault("diverged", "diverged")
    return found


def _counts(runs: Runs, left_out: int) -> FitCounts:
    return FitCounts(
        runs=len(runs),
        diverged=len(runs.diverged.get("n", ())),
        cells=len({*zip(runs.n.tolist(), runs.d.tolist(), strict=True)}),
        left_out=left_out,
        n=(float(runs.n.min()), float(runs.n.max())),
        d=(float(runs.d.min()), float(runs.d.max())),
    )


def _list(values: Iterable[float]) -> list[float | None]:
    return [float(value) if np.isfinite(value) else None for value in values]


def _array(values: Sequence[float | None]) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    return np.array([np.nan if value is None else value for value in values], dtype=np.float64)
