"""Which configurations a space leaves out: linear constraints and forbidden combinations.

Both speak of the parameters in their own units, and apply only where all the parameters they name are
active. A constraint that names a continuous parameter holds within a millionth of the range of its left
side: what comes to lie on a boundary, by a solver or by rounding, is legal.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from search.domains import Choice, Domain, Fixed, ParamValue, Real
from search.table import Array, Layout, Mask, Table, code, number

Relation = Literal["<=", ">=", "=="]

_EXACT = 1e-9
"""Tolerance of what is calculated from exact values, relative to the size of the terms."""
_CONTINUOUS = 1e-6
"""Tolerance of a constraint on continuous parameters, relative to the range of its left side."""


@dataclass(frozen=True, slots=True)
class Linear:
    """``sum of coefficient * parameter``  <=, >= or ==  ``bound``."""

    terms: tuple[tuple[str, float], ...]
    """Parameter and coefficient, each parameter once."""
    relation: Relation
    bound: float

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(name for name, _ in self.terms)

    def __str__(self) -> str:
        words = ""
        for name, coefficient in self.terms:
            sign = "-" if coefficient < 0 else "+"
            words += f" {sign} " if words else ("-" if coefficient < 0 else "")
            words += name if abs(coefficient) == 1 else f"{abs(coefficient):g} * {name}"
        return f"{words} {self.relation} {self.bound:g}"

    def to_json(self) -> dict[str, Any]:
        return {"terms": dict(self.terms), "relation": self.relation, "bound": self.bound}


@dataclass(frozen=True, slots=True)
class Clause:
    """A set of values of one parameter: those listed, or those above and below bounds (exclusive)."""

    name: str
    values: tuple[ParamValue, ...] = ()
    """Canonical; empty where the set is given by bounds."""
    above: float | None = None
    below: float | None = None

    def __str__(self) -> str:
        if self.values:
            return f"{self.name} = {' or '.join(str(value) for value in self.values)}"
        bounds = (("above", self.above), ("below", self.below))
        return f"{self.name} " + " and ".join(
            f"{word} {bound:g}" for word, bound in bounds if bound is not None
        )

    def to_json(self) -> Any:
        if self.values:
            return self.values[0] if len(self.values) == 1 else list(self.values)
        bounds = {"above": self.above, "below": self.below}
        return {word: bound for word, bound in bounds.items() if bound is not None}

    def holds(self, domain: Domain, codes: Array) -> Mask:
        """Which of the codes of the parameter are in the set."""
        if self.values:
            wanted = np.array([code(domain, value) for value in self.values])
            return np.asarray((codes[:, None] == wanted).any(axis=1))
        if isinstance(domain, Choice):
            numbers = np.array([number(value) for value in domain.values])[codes.astype(np.intp)]
        else:
            numbers = codes
        inside = np.ones(len(codes), dtype=np.bool_)
        if self.above is not None:
            inside &= numbers > self.above
        if self.below is not None:
            inside &= numbers < self.below
        return inside


@dataclass(frozen=True, slots=True)
class Forbidden:
    """A combination that must not occur: all clauses at once."""

    clauses: tuple[Clause, ...]

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(clause.name for clause in self.clauses)

    def __str__(self) -> str:
        return " with ".join(str(clause) for clause in self.clauses)

    def to_json(self) -> dict[str, Any]:
        return {clause.name: clause.to_json() for clause in self.clauses}


@dataclass(frozen=True)
class Rules:
    """The constraints of a space, ready to judge tables."""

    layout: Layout
    linear: tuple[Linear, ...]
    forbidden: tuple[Forbidden, ...]
    coefficients: Array
    """Shape (m, p): ``coefficients @ values <= bounds``, equalities too, with >= turned round."""
    bounds: Array
    """Shape (m,)."""
    tolerances: Array
    """Shape (m,): by how much a bound may be missed."""
    equality: Mask
    """Shape (m,)."""
    named: Mask
    """Shape (m, p): which parameters a constraint names."""

    @classmethod
    def of(cls, layout: Layout, linear: Sequence[Linear], forbidden: Sequence[Forbidden]) -> Rules:
        shape = (len(linear), len(layout.parameters))
        coefficients, tolerances = np.zeros(shape), np.zeros(len(linear))
        bounds = np.zeros(len(linear))
        for row, constraint in enumerate(linear):
            sign = -1.0 if constraint.relation == ">=" else 1.0
            for name, coefficient in constraint.terms:
                coefficients[row, layout.columns[name]] = sign * coefficient
            bounds[row] = sign * constraint.bound
            tolerances[row] = _tolerance(layout, constraint)
        return cls(
            layout,
            tuple(linear),
            tuple(forbidden),
            coefficients,
            bounds,
            tolerances,
            np.array([constraint.relation == "==" for constraint in linear], dtype=np.bool_),
            coefficients != 0,
        )

    def applies(self, table: Table) -> Mask:
        """Which linear constraints apply to which configuration, shape (n, m)."""
        applies = np.ones((len(table), len(self.linear)), dtype=np.bool_)
        for at, named in enumerate(self.named):
            applies[:, at] = table.active[:, named].all(axis=1)
        return applies

    def broken(self, table: Table) -> Mask:
        """Which linear constraints a configuration breaks, shape (n, m)."""
        if not self.linear:
            return np.zeros((len(table), 0), dtype=np.bool_)
        excess = self.layout.numbers(table) @ self.coefficients.T - self.bounds
        excess = np.where(self.equality, np.abs(excess), excess)
        return (excess > self.tolerances) & self.applies(table)

    def caught(self, table: Table) -> Mask:
        """Which forbidden combinations a configuration has, shape (n, number of combinations)."""
        found = np.ones((len(table), len(self.forbidden)), dtype=np.bool_)
        for at, combination in enumerate(self.forbidden):
            for clause in combination.clauses:
                column = self.layout.columns[clause.name]
                domain = self.layout.parameters[column].domain
                found[:, at] &= table.active[:, column] & clause.holds(domain, table.codes[:, column])
        return found

    def legal(self, table: Table) -> Mask:
        """Which configurations break nothing, shape (n,)."""
        return np.asarray(~self.broken(table).any(axis=1) & ~self.caught(table).any(axis=1))


def ends(domain: Domain) -> tuple[float, float]:
    """The least and the largest value of a numeric domain; (0, 0) where its values are no numbers."""
    if isinstance(domain, Choice):
        numbers = [number(value) for value in domain.values]
        return min(numbers), max(numbers)
    if isinstance(domain, Fixed):
        return number(domain.value), number(domain.value)
    return float(domain.low), float(domain.high)


def is_numeric(domain: Domain) -> bool:
    """Whether all values are numbers."""
    if isinstance(domain, Choice):
        return not any(isinstance(value, bool | str) for value in domain.values)
    return not isinstance(domain, Fixed) or not isinstance(domain.value, bool | str)


def _tolerance(layout: Layout, constraint: Linear) -> float:
    domains = [(layout.parameters[layout.columns[name]].domain, c) for name, c in constraint.terms]
    size = abs(constraint.bound) + sum(abs(c) * max(map(abs, ends(domain))) for domain, c in domains)
    if any(isinstance(domain, Real) for domain, _ in domains):
        width = sum(abs(c) * (ends(domain)[1] - ends(domain)[0]) for domain, c in domains)
        shares = {share for simplex, _, _ in layout.groups for share in simplex.shares}
        width += sum(abs(c) for name, c in constraint.terms if name in shares)  # Shares are rounded.
        return max(_EXACT * size, _CONTINUOUS * width)
    return _EXACT * size
