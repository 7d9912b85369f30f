"""The encoding that models see: configurations as vectors whose distances mean something.

Where the unit cube of a space is made for drawing (every point is a configuration), this one is made for
kernels. Every column is in [0, 1]:

- a numeric or ordered parameter: one column, its coordinate in the cube (on its log scale or grid);
- a bool: 0 or 1;
- a choice without order: a column for each value, 1/sqrt(2) for the one taken, so that two different
  values are at distance 1;
- a share of a simplex: the square root of what it has above the least share, since a small share more of
  what was nearly absent changes more than the same on top of a large one;
- parameters that are active under the same conditions: one column, 1 while they are active.

The columns of a parameter that is not active have a fixed value. So a stationary kernel over the columns
holds two configurations that both lack a parameter for equal in it, and one that has it apart from one that
lacks it (the embedding of Hutter and Osborne, "A Kernel for Hierarchical Parameter Spaces", 2013, for a
conditional space). Parameters with one value only have no column.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
import numpy.typing as npt

from search.domains import Choice, ParamValue
from search.space import SearchSpace
from search.table import Array, Table, encode_column

Kind = Literal["numeric", "ordered", "bool", "categorical", "share", "active"]

_HOT = math.sqrt(0.5)
_NEUTRAL: Mapping[Kind, float] = {"categorical": 0.0}
"""The value of a column while its parameter is not active; 0.5 for the other kinds."""


@dataclass(frozen=True, slots=True)
class Column:
    """What a column says."""

    kind: Kind
    parameters: tuple[str, ...]
    """The parameter that it belongs to; for an ``active`` column those that it says are active."""
    value: ParamValue | None = None
    """Of a categorical column: the value that it stands for."""


@dataclass(frozen=True)
class Features:
    """The encoding of a space; see the module."""

    space: SearchSpace
    columns: tuple[Column, ...]

    @classmethod
    def of(cls, space: SearchSpace) -> Features:
        shares = {share for simplex in space.simplexes for share in simplex.shares}
        columns: list[Column] = []
        groups: dict[object, list[str]] = {}
        for p in space.parameters:
            if p.domain.size == 1:
                continue
            if p.when:
                # Whatever order the values are written in; repr tells 1 from 1.0 and True.
                condition = frozenset((parent, frozenset(map(repr, values))) for parent, values in p.when)
                groups.setdefault(condition, []).append(p.name)
            if isinstance(p.domain, Choice) and p.domain.kind == "categorical":
                columns.extend(Column("categorical", (p.name,), value) for value in p.domain.values)
            elif isinstance(p.domain, Choice):
                columns.append(Column("bool" if p.domain.kind == "bool" else "ordered", (p.name,)))
            else:
                columns.append(Column("share" if p.name in shares else "numeric", (p.name,)))
        columns.extend(Column("active", tuple(names)) for names in groups.values())
        return cls(space, tuple(columns))

    @property
    def width(self) -> int:
        return len(self.columns)

    @cached_property
    def by_parameter(self) -> Mapping[str, tuple[int, ...]]:
        """The columns of each parameter that has any, without the ``active`` ones."""
        own: dict[str, list[int]] = {}
        for at, column in enumerate(self.columns):
            if column.kind != "active":
                own.setdefault(column.parameters[0], []).append(at)
        return {name: tuple(places) for name, places in own.items()}

    def encode(self, configurations: Sequence[Mapping[str, ParamValue]]) -> Array:
        """The vectors of legal configurations, shape (n, width)."""
        return self.encode_table(self.space.layout.read(configurations))

    def encode_table(self, table: Table) -> Array:
        """:meth:`encode` of configurations that are columns already."""
        layout = self.space.layout
        encoded = np.empty((len(table), self.width))
        least = {share: simplex for simplex in self.space.simplexes for share in simplex.shares}
        for at, column in enumerate(self.columns):
            own = layout.columns[column.parameters[0]]
            domain = layout.parameters[own].domain
            codes, active = table.codes[:, own], table.active[:, own]
            if column.kind == "active":
                encoded[:, at] = active
                continue
            values: npt.NDArray[np.float64]
            if column.kind == "categorical":
                assert isinstance(domain, Choice)
                values = np.where(codes == domain.index(column.value), _HOT, 0.0)
            elif column.kind == "share":
                simplex = least[column.parameters[0]]
                free = 1 - len(simplex.parts) * simplex.low
                values = np.sqrt(np.clip((codes - simplex.low) / free, 0.0, 1.0))
            elif column.kind == "bool":
                values = codes
            else:
                # An inactive log parameter has the code 0, whose logarithm is not wanted.
                values = np.zeros(len(table))
                values[active] = encode_column(domain, codes[active])
            encoded[:, at] = np.where(active, values, _NEUTRAL.get(column.kind, 0.5))
        return encoded
