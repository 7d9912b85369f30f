"""The command ``export``: a study's trials as csv, json or parquet."""

from __future__ import annotations

import csv
import importlib.util
import io
import json
import math
import os
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from trimtab.cli.output import Json, Study, Token, Url, err, print_json
from trimtab.client import Client
from trimtab.errors import TrimtabError
from trimtab.wire.views import TrialItem


class Format(StrEnum):
    CSV = "csv"
    JSON = "json"
    PARQUET = "parquet"


def export(
    study: Study,
    form: Annotated[
        Format | None, typer.Option("--format", "-f", help="csv unless the file's name says.")
    ] = None,
    file: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="Standard output when absent.")
    ] = None,
    url: Url = None,
    token: Token = None,
    as_json: Json = False,
) -> None:
    """Export all trials: number, state, parameters, values, outcomes, steps, seconds.

    Example: trimtab export gpt-lr -o trials.parquet
    """
    chosen = form or (Format.JSON if as_json and file is None else _format_of(file))
    if chosen == Format.PARQUET:
        _require_parquet(file)
    with Client(url, token) as client:
        trials = list(client.trials(client.find(study).id))
    if chosen == Format.PARQUET:
        assert file is not None
        _write_parquet(trials, file)
    else:
        text = _csv(trials) if chosen == Format.CSV else _json(trials)
        if file is None:
            sys.stdout.write(text)
        else:
            _write(file, text)
    if file is not None and as_json:
        print_json({"file": str(file), "format": chosen.value, "trials": len(trials)})
    elif file is not None:
        err.print(f"wrote {len(trials)} trials to {file}", soft_wrap=True)


def _format_of(file: Path | None) -> Format:
    suffix = "" if file is None else file.suffix.lower().lstrip(".")
    return Format(suffix) if suffix in set(Format) else Format.CSV


def _require_parquet(file: Path | None) -> None:
    if file is None:
        raise TrimtabError("parquet is binary and needs a file", "add: --output trials.parquet")
    if importlib.util.find_spec("pyarrow") is None:
        raise TrimtabError(
            "parquet needs pyarrow, which is not installed", "pip install 'trimtab[parquet]'"
        )


def _json(trials: list[TrialItem]) -> str:
    return json.dumps([trial.model_dump(mode="json") for trial in trials], indent=2) + "\n"


def _rows(trials: list[TrialItem]) -> list[dict[str, Any]]:
    """One flat row per trial; each parameter is a column ``params.NAME``, empty where inactive.

    What the trainer got instead of a tied parameter's value is a column ``scaled.NAME``; the last value of
    each metric that an objective or a limit names, ``outcomes.NAME``. A schedule is a column of JSON text.
    """
    names = list(dict.fromkeys(name for trial in trials for name in trial.params))
    tied = list(dict.fromkeys(name for trial in trials for name in trial.scaled))
    metrics = list(dict.fromkeys(name for trial in trials for name in trial.outcomes))
    rows = []
    for trial in trials:
        fields = trial.model_dump(exclude=set(_SPREAD))
        fields["over_limits"] = "; ".join(trial.over_limits) or None
        fields["schedule"] = None if trial.schedule is None else json.dumps(trial.schedule)
        row = {name: str(value) if isinstance(value, StrEnum) else value for name, value in fields.items()}
        row |= {f"params.{name}": trial.params.get(name) for name in names}
        row |= {f"scaled.{name}": trial.scaled.get(name) for name in tied}
        rows.append(row | {f"outcomes.{name}": trial.outcomes.get(name) for name in metrics})
    return rows


_SPREAD = ("params", "scaled", "outcomes")
"""Fields of a trial that are columns of their own, a column for each name."""


def _csv(trials: list[TrialItem]) -> str:
    rows = _rows(trials)
    fields = list(rows[0]) if rows else [name for name in TrialItem.model_fields if name not in _SPREAD]
    text = io.StringIO()
    writer = csv.DictWriter(text, fields, lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: _cell(value) for name, value in row.items()} for row in rows)
    return text.getvalue()


def _cell(value: Any) -> Any:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return value.isoformat() if hasattr(value, "isoformat") else value


def _write_parquet(trials: list[TrialItem], file: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    rows = _rows(trials)
    for name in {name for row in rows for name in row if name.startswith("params.")}:
        kinds = {type(row[name]) for row in rows if row[name] is not None}
        if len(kinds) > 1 and not kinds <= {int, float}:
            # A column has one type: values of several kinds become text.
            for row in rows:
                row[name] = None if row[name] is None else str(_cell(row[name]))
    try:
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), file)
    except OSError as error:
        raise _not_written(file, error) from error


def _write(file: Path, text: str) -> None:
    try:
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise _not_written(file, error) from error


def _not_written(file: Path, error: OSError) -> TrimtabError:
    # The text of an OSError names the file once more, and pyarrow's the call that failed.
    why = str(error) if error.errno is None else os.strerror(error.errno)
    return TrimtabError(
        f"{file} cannot be written: {why}", "name a file in a folder that can be written to"
    )
