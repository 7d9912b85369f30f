"""Many configurations at once, as columns: what sampling, constraints and encodings calculate with.

A configuration's value is held as a *code*: the number itself for a numeric domain, the index for a choice,
0 for a fixed parameter and for one that is not active. Columns are in the order of the space's parameters.
Single configurations go through :mod:`search.domains`; both give the same values.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from search.domains import Choice, Domain, Fixed, ParamValue, Real, RealGrid, Whole
from search.parameters import Parameter, Simplex

Array = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

_LISTED_GRID = 4_096
"""Values of a grid that are worth keeping in a list."""


@dataclass(frozen=True, slots=True)
class Table:
    """``n`` configurations of a space of ``p`` parameters."""

    codes: Array
    """Shape (n, p)."""
    active: Mask
    """Shape (n, p)."""

    def __len__(self) -> int:
        return len(self.codes)

    def take(self, rows: npt.NDArray[np.intp] | Mask | slice) -> Table:
        return Table(self.codes[rows], self.active[rows])

    @classmethod
    def concat(cls, tables: Sequence[Table]) -> Table:
        return cls(np.concatenate([t.codes for t in tables]), np.concatenate([t.active for t in tables]))


@dataclass(frozen=True)
class Layout:
    """How the configurations of a space lie in a table and in the cube."""

    parameters: tuple[Parameter, ...]
    columns: Mapping[str, int]
    """Of each parameter in a table."""
    order: tuple[int, ...]
    """The columns, parents before children."""
    searched: tuple[int, ...]
    """The columns that have a coordinate in the cube, in its order."""
    conditions: tuple[tuple[tuple[int, Array], ...], ...]
    """For each column: the columns it depends on, each with the codes that make it active."""
    groups: tuple[tuple[Simplex, npt.NDArray[np.intp], npt.NDArray[np.intp]], ...]
    """Each simplex with the columns of its shares, in a table and in the cube."""

    @classmethod
    def of(
        cls, parameters: tuple[Parameter, ...], order: Sequence[Parameter], simplexes: Sequence[Simplex]
    ) -> Layout:
        columns = {p.name: i for i, p in enumerate(parameters)}
        searched = tuple(i for i, p in enumerate(parameters) if not isinstance(p.domain, Fixed))
        return cls(
            parameters,
            columns,
            tuple(columns[p.name] for p in order),
            searched,
            tuple(
                tuple(
                    (
                        columns[parent],
                        np.array([code(parameters[columns[parent]].domain, v) for v in values]),
                    )
                    for parent, values in p.when
                )
                for p in parameters
            ),
            tuple(
                (
                    simplex,
                    np.array([columns[share] for share in simplex.shares], dtype=np.intp),
                    np.array([searched.index(columns[share]) for share in simplex.shares], dtype=np.intp),
                )
                for simplex in simplexes
            ),
        )

    def decode(self, points: Array) -> Table:
        """The configurations of points of the cube, shape (n, len(searched))."""
        n = len(points)
        codes = np.zeros((n, len(self.parameters)))
        active = np.zeros((n, len(self.parameters)), dtype=np.bool_)
        places = {column: place for place, column in enumerate(self.searched)}
        shares = {column for _, columns, _ in self.groups for column in columns}
        for column in self.order:
            active[:, column] = self.is_active(column, codes, active)
            if column in places and column not in shares:
                decoded = decode_column(self.parameters[column].domain, points[:, places[column]])
                codes[:, column] = np.where(active[:, column], decoded, 0.0)
        for simplex, columns, own in self.groups:
            codes[:, columns] = np.where(active[:, columns], simplex.decode(points[:, own]), 0.0)
        return Table(codes, active)

    def encode(self, table: Table) -> Array:
        """The points of configurations, shape (n, len(searched)); 0.5 where inactive."""
        points = np.full((len(table), len(self.searched)), 0.5)
        shares = {column for _, columns, _ in self.groups for column in columns}
        for place, column in enumerate(self.searched):
            if column not in shares:
                active = table.active[:, column]
                points[active, place] = encode_column(
                    self.parameters[column].domain, table.codes[active, column]
                )
        for simplex, columns, own in self.groups:
            active = table.active[:, columns[0]]
            points[np.ix_(active, own)] = simplex.encode(table.codes[np.ix_(active, columns)])
        return points

    def is_active(self, column: int, codes: Array, active: Mask) -> Mask:
        """Where the conditions of a column hold, shape (n,), given the columns before it."""
        holds = np.ones(len(codes), dtype=np.bool_)
        for parent, allowed in self.conditions[column]:
            holds &= active[:, parent] & (codes[:, parent, None] == allowed).any(axis=1)
        return holds

    def read(self, configurations: Sequence[Mapping[str, ParamValue]]) -> Table:
        """The table of legal configurations."""
        codes = np.zeros((len(configurations), len(self.parameters)))
        active = np.zeros((len(configurations), len(self.parameters)), dtype=np.bool_)
        for column, p in enumerate(self.parameters):
            values = [params.get(p.name) for params in configurations]
            active[:, column] = [value is not None for value in values]
            if isinstance(p.domain, Choice):
                known: dict[tuple[type, ParamValue | None], float] = {(type(None), None): 0.0}
                for value in values:
                    if value is not None and (type(value), value) not in known:
                        known[type(value), value] = code(p.domain, value)
                codes[:, column] = [known[type(value), value] for value in values]
            elif not isinstance(p.domain, Fixed):
                codes[:, column] = [0.0 if value is None else float(value) for value in values]
        return Table(codes, active)

    def write(self, table: Table) -> list[dict[str, ParamValue]]:
        """The configurations of a table, each naming its active parameters in the order of the space."""
        configurations: list[dict[str, ParamValue]] = [{} for _ in range(len(table))]
        for column, p in enumerate(self.parameters):
            values = value_column(p.domain, table.codes[:, column])
            active = table.active[:, column]
            if active.all():
                for params, value in zip(configurations, values, strict=True):
                    params[p.name] = value
            else:
                for row in np.flatnonzero(active).tolist():
                    configurations[row][p.name] = values[row]
        return configurations

    def numbers(self, table: Table) -> Array:
        """The values in the parameters' own units, shape (n, p); 0 where they are no numbers."""
        numbers = table.codes.copy()
        for column, p in enumerate(self.parameters):
            if isinstance(p.domain, Choice):
                listed = np.array([number(value) for value in p.domain.values])
                numbers[:, column] = listed[table.codes[:, column].astype(np.intp)]
            elif isinstance(p.domain, Fixed):
                numbers[:, column] = number(p.domain.value)
        return numbers


def number(value: ParamValue) -> float:
    """A value as a number; 0 if it is none."""
    return 0.0 if isinstance(value, bool | str) else float(value)


def code(domain: Domain, value: ParamValue) -> float:
    """The code of one legal value."""
    if isinstance(domain, Choice):
        index = domain.index(value)
        assert index is not None, f"{value!r} is not {domain.describe()}"
        return float(index)
    return 0.0 if isinstance(domain, Fixed) else float(value)


def value_column(domain: Domain, codes: Array) -> list[ParamValue]:
    """The values of codes."""
    if isinstance(domain, Choice):
        values = domain.values
        return [values[int(i)] for i in codes.tolist()]
    if isinstance(domain, Fixed):
        return [domain.value] * len(codes)
    if isinstance(domain, Whole):
        return [int(x) for x in codes.tolist()]
    return list(codes.tolist())


def encode_column(domain: Domain, codes: Array) -> Array:
    """Coordinates of codes, each in [0, 1]: ``domain.encode`` of many values."""
    if isinstance(domain, Fixed):
        return np.full(len(codes), 0.5)
    if isinstance(domain, Choice):
        return (codes + 0.5) / domain.size
    if isinstance(domain, RealGrid):
        return (grid_index(domain, codes) + 0.5) / domain.size
    if isinstance(domain, Whole) and not domain.log:
        return (np.floor((codes - domain.low) / domain.step) + 0.5) / domain.size
    if isinstance(domain, Whole):
        low, high = math.log(domain.low - 0.5), math.log(domain.high + 0.5)
        return np.asarray((np.log(codes) - low) / (high - low))
    low, high, x = domain.low, domain.high, codes
    if domain.log:
        low, high, x = math.log(low), math.log(high), np.log(codes)
    if math.isinf(high - low):
        low, high, x = low / 2, high / 2, x / 2
    if low == high:
        return np.full(len(codes), 0.5)
    return np.clip((x - low) / (high - low), 0.0, 1.0)


def decode_column(domain: Domain, points: Array) -> Array:
    """Codes of coordinates: ``domain.decode`` of many numbers in [0, 1]."""
    if isinstance(domain, Fixed):
        return np.zeros(len(points))
    if isinstance(domain, Real):
        return _decode_real(domain, points)
    if isinstance(domain, Whole) and domain.log:
        low, high = math.log(domain.low - 0.5), math.log(domain.high + 0.5)
        numbers = np.rint(np.exp((1 - points) * low + points * high))
        return np.clip(numbers, domain.low, domain.high)
    indices = np.clip(np.floor(points * domain.size), 0, domain.size - 1)
    if isinstance(domain, Whole):
        return domain.low + domain.step * indices
    return grid_values(domain, indices) if isinstance(domain, RealGrid) else indices


def grid_index(domain: RealGrid, values: Array) -> Array:
    """The index of the grid point nearest to each value."""
    return np.clip(np.rint((values - domain.low) / domain.step), 0, domain.size - 1)


def grid_values(domain: RealGrid, indices: Array) -> Array:
    """The grid points of indices, as they are written."""
    if domain.size <= _LISTED_GRID:
        return _grid(domain)[indices.astype(np.intp)]
    return np.array([domain.at(int(i)) for i in indices.tolist()])


@lru_cache(maxsize=256)
def _grid(domain: RealGrid) -> Array:
    return np.array([domain.at(i) for i in range(domain.size)])


def _decode_real(domain: Real, points: Array) -> Array:
    low, high = domain.low, domain.high
    if domain.log:
        values = np.exp((1 - points) * math.log(low) + points * math.log(high))
    elif math.isinf(high - low):
        values = (1 - points) * low + points * high
    else:
        values = low + points * (high - low)
    values = np.where(points <= 0, low, np.where(points >= 1, high, values))
    return np.clip(values, low, high)
