"""Tables that people send: CSV and Parquet to columns, with what cannot be read said in words."""

from __future__ import annotations

import base64
import binascii
import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from service.errors import InvalidError
from trimtab.wire import limits
from trimtab.wire.problems import FieldProblem

_DELIMITERS = ",;\t|"
_MOST_PROBLEMS = 20


@dataclass(frozen=True, slots=True)
class Table:
    """Columns by name, all of one length."""

    columns: dict[str, Sequence[Any]]
    lines: Sequence[int] = ()
    """Of a text: the line at which each row ends, from 1."""


def read_csv(text: str) -> Table:
    """A header and a line for each row, parted by commas, semicolons, tabs or bars; cells stay text.

    Raises :class:`InvalidError` naming the lines that have too many or too few cells.
    """
    text = text.removeprefix("\ufeff")
    first = text[: max(text.find("\n"), 0)] or text
    delimiter = max(_DELIMITERS, key=first.count)
    reader = csv.reader(io.StringIO(text), delimiter=delimiter, skipinitialspace=True, strict=True)
    problems: list[FieldProblem] = []
    rows: list[list[str]] = []
    lines: list[int] = []
    header: list[str] | None = None
    try:
        for cells in reader:
            if not any(cell.strip() for cell in cells):
                continue
            if header is None:
                header = [cell.strip() for cell in cells]
                problems += _names(header, "/csv")
            elif len(cells) != len(header):
                problems.append(
                    _problem(
                        "/csv",
                        f"line {reader.line_num} has {len(cells)} cells, the header {len(header)}",
                        "give every line as many cells as the header, parted alike",
                    )
                )
            else:
                rows.append(cells)
                lines.append(reader.line_num)
            if len(problems) >= _MOST_PROBLEMS:
                break
    except csv.Error as error:
        problems.append(_problem("/csv", f"line {reader.line_num} cannot be read: {error}"))
    if header is None:
        problems.append(_problem("/csv", "the file is empty", "a line of names, then a line for each run"))
    _refuse(problems, "The CSV file cannot be read.")
    assert header is not None
    _check_length(len(rows), "/csv")
    return Table({name: [row[at] for row in rows] for at, name in enumerate(header)}, lines)


def read_parquet(text: str) -> Table:
    """A Parquet file in base64. Raises :class:`InvalidError`."""
    # It takes a tenth of a second to import, and most services never need it.
    import pyarrow
    import pyarrow.parquet

    try:
        content = base64.b64decode(text, validate=True)
    except (ValueError, binascii.Error):
        raise _invalid("/parquet", "this is no base64", "encode the file's bytes in base64") from None
    try:
        file = pyarrow.parquet.ParquetFile(io.BytesIO(content))
        _check_length(file.metadata.num_rows, "/parquet")
        table = file.read()
        columns = {name: table.column(name).to_pylist() for name in dict.fromkeys(table.column_names)}
    except (pyarrow.ArrowException, OSError, ValueError, KeyError) as error:
        first_line = str(error).partition("\n")[0][:200]
        raise _invalid("/parquet", f"this is no Parquet file that can be read: {first_line}", "") from None
    return Table(columns)


def checked(columns: dict[str, list[Any]]) -> Table:
    """A table that came as columns. Raises :class:`InvalidError` if they are too long."""
    _check_length(max((len(column) for column in columns.values()), default=0), "/table")
    return Table(dict(columns))


def _names(header: list[str], pointer: str) -> list[FieldProblem]:
    twice = sorted({name for name in header if header.count(name) > 1 and name})
    return [_problem(pointer, f"the header has {name!r} more than once", "rename one") for name in twice]


def _check_length(rows: int, pointer: str) -> None:
    if rows > limits.MAX_FITTED_RUNS:
        raise _invalid(
            pointer,
            f"there are {rows:,} runs; a fit takes {limits.MAX_FITTED_RUNS:,} at most",
            "leave out runs far from the optimum of their cell",
        )


def _problem(pointer: str, message: str, suggestion: str = "") -> FieldProblem:
    return FieldProblem(pointer=pointer, message=message, suggestion=suggestion)


def _invalid(pointer: str, message: str, suggestion: str) -> InvalidError:
    return InvalidError("The table cannot be read.", [_problem(pointer, message, suggestion)])


def _refuse(problems: list[FieldProblem], detail: str) -> None:
    if problems:
        raise InvalidError(detail, problems)
