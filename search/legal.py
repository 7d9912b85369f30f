"""Configurations that break no constraint: from points of the cube, or by a walk."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from search.errors import Mistake, SearchError
from search.parameters import SHARE_UNITS
from search.polytope import System
from search.space import ParamValue, SearchSpace
from search.table import Array, Table

_STARTS = 8
"""First configurations of the walk through what narrow constraints leave."""
_SWEEPS = 12
"""Steps of the walk in each coordinate."""


def legalised(space: SearchSpace, points: Array) -> Table:
    """The legal ones among the configurations of points of the cube, in their order.

    Equalities are solved for one of their parameters first, so that points need not hit them by chance.
    """
    table = space.layout.decode(points)
    if not space.constrained:
        return table
    table = completed(space, table)
    return table.take(space.rules.legal(table))


def legal_at(space: SearchSpace, point: npt.ArrayLike) -> dict[str, ParamValue] | None:
    """The configuration of one point of the cube, equalities solved; None if it is illegal."""
    if not space.constrained:
        return space.decode(point)
    legal = legalised(space, np.asarray(point, dtype=np.float64)[None])
    return space.layout.write(legal)[0] if len(legal) else None


def completed(space: SearchSpace, table: Table) -> Table:
    """The table with every equality solved for one of its parameters, whose own value is forgotten.

    The solution may lie out of range; then the value is left, and the constraint broken.
    """
    rules = space.rules
    if not rules.equality.any():
        return table
    codes, active = table.codes.copy(), table.active
    applies = rules.applies(table) & rules.equality
    for pattern in np.unique(applies, axis=0):
        if not pattern.any():
            continue
        mine = (applies == pattern).all(axis=1)
        system = System.of(
            space.layout, rules.coefficients[pattern], rules.bounds[pattern], rules.equality[pattern]
        )
        solved = system.solved()
        values = space.layout.numbers(Table(codes[mine], active[mine]))
        solution = system.completed(values, solved)
        in_range = np.ones(len(values), dtype=np.bool_)
        for column in solved.pivots.tolist():
            domain = system.domain(column)
            in_range &= (solution[:, column] >= domain.low) & (solution[:, column] <= domain.high)
        places = np.ix_(np.flatnonzero(mine)[in_range], solved.pivots)
        codes[places] = solution[np.ix_(in_range, solved.pivots)]
    return Table(_round_shares(space, codes, active), active)


def _round_shares(space: SearchSpace, codes: Array, active: npt.NDArray[np.bool_]) -> Array:
    """Codes with the shares of each simplex at six decimals again."""
    for simplex, columns, _ in space.layout.groups:
        own = active[:, columns[0]]
        places = np.ix_(own, columns)
        off = np.abs(codes[places].sum(axis=1) - 1) > len(columns) / SHARE_UNITS
        shares = simplex.rounded(np.clip(codes[places] - simplex.low, 0.0, None))
        codes[places] = np.where(off[:, None], codes[places], shares)
    return codes


def walked(space: SearchSpace, count: int, known: Table, rng: np.random.Generator) -> Table:
    """``count`` legal configurations where nearly every point of the cube is illegal.

    ``known`` are some legal ones, as far as there are any. Raises :class:`~search.errors.SearchError` if
    none is found.
    """
    starts = [known.take(slice(_STARTS))]
    if len(starts[0]) < _STARTS:
        starts.append(_solved(space, _STARTS - len(starts[0]), rng))
    start = Table.concat(starts)
    if len(start) == 0:
        if space.cardinality:  # Finite, and small enough to be listed.
            listed = list(space.configurations())
            return space.layout.read([listed[i] for i in rng.integers(len(listed), size=count)])
        where = "/constraints/0" if space.constraints else "/forbid/0"
        message = "no configuration was found that breaks none of them"
        raise SearchError([Mistake(where, message, "loosen the constraints")])
    chains = start.take(rng.integers(len(start), size=count))
    codes = chains.codes.copy()
    held = _held(space)
    fresh_points = space.layout.encode(chains)
    loose = [place for place, column in enumerate(space.layout.searched) if column not in held]
    fresh_points[:, loose] = rng.random((count, len(loose)))
    redrawn = space.layout.decode(fresh_points)
    for place in loose:
        column = space.layout.searched[place]
        codes[:, column] = redrawn.codes[:, column]
    applies = space.rules.applies(chains)
    for pattern in np.unique(applies, axis=0):
        if pattern.any():
            mine = (applies == pattern).all(axis=1)
            codes[mine] = _walk(space, Table(codes[mine], chains.active[mine]), pattern, rng)
    return Table(codes, chains.active)


def _walk(
    space: SearchSpace, table: Table, pattern: npt.NDArray[np.bool_], rng: np.random.Generator
) -> Array:
    """Codes after the walk, of configurations to which the same constraints apply."""
    rules = space.rules
    system = System.of(
        space.layout, rules.coefficients[pattern], rules.bounds[pattern], rules.equality[pattern]
    )
    values, moving, codes = space.layout.numbers(table), system.moving, table.codes
    for _ in range(_SWEEPS):
        values = system.walk(values, 1, rng)
        moved = codes.copy()
        moved[:, moving] = values[:, moving]
        moved = _round_shares(space, moved, table.active)
        codes = np.where(rules.legal(Table(moved, table.active))[:, None], moved, codes)
        values[:, moving] = codes[:, moving]
    return codes


def _held(space: SearchSpace) -> set[int]:
    """The columns that constraints or conditions look at, and those that hang together with them."""
    names = {name for constraint in space.constraints for name in constraint.names}
    names |= {name for combination in space.forbidden for name in combination.names}
    names |= {parent for p in space.parameters for parent, _ in p.when}
    for simplex in space.simplexes:
        if names.intersection(simplex.shares):
            names.update(simplex.shares)
    return {space.layout.columns[name] for name in names}


def _solved(space: SearchSpace, count: int, rng: np.random.Generator) -> Table:
    """At most ``count`` legal configurations, found by solving the linear constraints."""
    rules = space.rules
    found: list[Table] = []
    for _ in range(4 * count):
        base = space.layout.decode(rng.random((1, len(space.layout.searched))))
        pattern = rules.applies(base)[0]
        if not pattern.any():
            continue  # Rejection has shown that forbidden combinations alone are in the way.
        system = System.of(
            space.layout, rules.coefficients[pattern], rules.bounds[pattern], rules.equality[pattern]
        )
        values = system.feasible(space.layout.numbers(base)[0], rng)
        if values is None:
            continue
        codes = base.codes.copy()
        codes[0, system.moving] = values[system.moving]
        solution = Table(_round_shares(space, codes, base.active), base.active)
        if rules.legal(solution)[0]:
            found.append(solution)
            if len(found) == count:
                break
    return Table.concat([space.layout.decode(np.empty((0, len(space.layout.searched)))), *found])
