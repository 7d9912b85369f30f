"""Drawing configurations: legal ones in bulk, ones near another, and ones that the study has not tried yet.

Everything is a function of the space and of the generator that is passed in.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice

import numpy as np
import numpy.typing as npt

from search.domains import Choice, Real
from search.errors import Mistake, SearchError
from search.parameters import SHARE_UNITS
from search.polytope import System
from search.space import Key, ParamValue, SearchSpace
from search.table import Array, Table
from search.view import StudyView

_DRAWS = 256
"""Points drawn before the untried configurations of a finite space are listed instead."""
_LISTED = 4_096
"""Untried configurations from which one is then chosen."""
_REJECTIONS = 16_384
"""Points of the cube tried for a legal one before the constraints are solved instead."""
_BLOCK = 2_048
"""Most points decoded at a time."""
_STARTS = 16
"""First configurations of the walk through what narrow constraints leave."""
_ATTEMPTS = 6
"""Rounds of ever shorter steps from a configuration to its neighbours."""
_SWEEPS = 12
"""Steps of the walk in each coordinate."""


def candidates(space: SearchSpace, count: int, rng: np.random.Generator) -> list[dict[str, ParamValue]]:
    """``count`` legal configurations, even over the space; the same one may come twice.

    They are the legal points of a scrambled Sobol sequence. Where constraints leave little of the cube, a
    random walk (Gibbs sampling from points that satisfy the constraints) gives what is missing.

    Raises :class:`~search.errors.SearchError` if no legal configuration is found.
    """
    return space.layout.write(candidate_table(space, count, rng))


def candidate_table(space: SearchSpace, count: int, rng: np.random.Generator) -> Table:
    """:func:`candidates` as columns."""
    from scipy.stats import qmc  # heavy: only when a sequence is drawn

    dimensions = len(space.layout.searched)
    if dimensions == 0:
        return legalised(space, np.empty((count, 0)))
    sequence = qmc.Sobol(dimensions, scramble=True, rng=rng)
    found: list[Table] = []
    missing, drawn, block = count, 0, 1 << max(6, (count - 1).bit_length())
    limit = max(_REJECTIONS, 4 * count)
    # Given up as soon as the rate so far says that the limit will not do.
    while missing > 0 and (drawn < _BLOCK or (count - missing) * limit > count * drawn) and drawn < limit:
        points = sequence.random(min(block, _BLOCK) if space.constrained else block)
        drawn += len(points)
        legal = legalised(space, points)
        found.append(legal.take(slice(missing)))
        missing -= len(found[-1])
    if missing > 0:
        found.append(_walked(space, missing, Table.concat(found), rng))
    return Table.concat(found)


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


def _walked(space: SearchSpace, count: int, known: Table, rng: np.random.Generator) -> Table:
    """Legal configurations where nearly every point of the cube is illegal."""
    starts = [known.take(slice(_STARTS))]
    if len(starts[0]) < _STARTS:
        starts.append(_solved(space, _STARTS - len(starts[0]), rng))
    start = Table.concat(starts)
    if len(start) == 0:
        if space.cardinality:  # Finite, and small enough to be listed.
            listed = list(space.configurations())
            return space.layout.read([listed[i] for i in rng.integers(len(listed), size=count)])
        where = "/constraints/0" if space.constraints else "/forbid/0"
        raise SearchError(
            [
                Mistake(
                    where, "no configuration was found that breaks none of them", "loosen the constraints"
                )
            ]
        )
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


def neighbours(
    space: SearchSpace,
    params: Mapping[str, ParamValue],
    count: int,
    rng: np.random.Generator,
    scale: float = 0.1,
) -> list[dict[str, ParamValue]]:
    """``count`` legal configurations near ``params``, which is legal; some may be equal to it.

    A numeric parameter takes a normal step of standard deviation ``scale`` in the unit cube, reflected at
    the ends; one of few values moves by one at least now and then. A choice is drawn anew with a small
    probability, the shares of a simplex step on the sphere of their square roots, and parameters that
    become active are drawn from their whole range. Steps that break a constraint are drawn again, shorter.
    Where that leads nowhere, the rest are ``candidates``.
    """
    base = space.layout.encode(space.layout.read([params]))[0]
    was_active = space.layout.read([params]).active[0]
    found: list[Table] = []
    missing = count
    for attempt in range(_ATTEMPTS if space.constrained else 1):
        points = _steps(space, base, was_active, max(missing, 64), scale * 0.5**attempt, rng)
        legal = legalised(space, points)
        found.append(legal.take(slice(missing)))
        missing -= len(found[-1])
        if missing == 0:
            break
    if missing:
        found.append(candidate_table(space, missing, rng))
    return space.layout.write(Table.concat(found))


def _steps(
    space: SearchSpace,
    base: Array,
    was_active: npt.NDArray[np.bool_],
    count: int,
    scale: float,
    rng: np.random.Generator,
) -> Array:
    """Points of the cube near ``base``, shape (count, d)."""
    searched = space.layout.searched
    redraw = max(0.05, 0.5 / max(1, len(searched)))
    points = base + scale * rng.standard_normal((count, len(searched)))
    anew, again = rng.random((count, len(searched))), rng.random((count, len(searched)))
    for place, column in enumerate(searched):
        domain = space.layout.parameters[column].domain
        if not was_active[column]:
            points[:, place] = anew[:, place]
        elif isinstance(domain, Choice) and domain.kind != "ordered":
            points[:, place] = np.where(again[:, place] < redraw, anew[:, place], base[place])
        elif not isinstance(domain, Real):
            # Where a step is much shorter than a cell, nothing would ever change.
            one = np.where(anew[:, place] < 0.5, -1.0, 1.0) / domain.size
            points[:, place] = np.where(again[:, place] < redraw, base[place] + one, points[:, place])
    points = np.abs(points)
    points = np.clip(np.where(points > 1, 2 - points, points), 0.0, 1.0)
    for simplex, columns, own in space.layout.groups:
        if was_active[columns[0]]:
            shares = simplex.decode(base[None, own])
            roots = np.sqrt((shares - simplex.low).clip(0) / max(1 - len(columns) * simplex.low, 1e-12))
            roots = np.abs(roots + scale * rng.standard_normal((count, len(columns))))
            points[:, own] = simplex.encode(simplex.rounded(roots**2))
    return points


def sobol_points(dimensions: int, start: int, seed: int) -> Iterator[npt.NDArray[np.float64]]:
    """The Sobol sequence from its point ``start`` on, scrambled by ``seed``; each of shape (dimensions,).

    Owen-scrambled as in scipy; the same seed gives the same sequence, so that a study can be taken up at
    any point of it.
    """
    if dimensions == 0:
        while True:
            yield np.empty(0)
    from scipy.stats import qmc  # heavy: only when a sequence is drawn

    sequence = qmc.Sobol(dimensions, scramble=True, seed=np.random.default_rng(seed))
    if start:
        sequence.fast_forward(start)
    while True:
        yield sequence.random(1)[0]


def uniform_points(dimensions: int, rng: np.random.Generator) -> Iterator[npt.NDArray[np.float64]]:
    """Uniform points of the cube, each of shape (dimensions,)."""
    while True:
        yield rng.random(dimensions)


def tried(view: StudyView) -> set[Key]:
    """What need not be tried again: every configuration of the study, whatever became of it."""
    return {view.space.key(trial.params) for trial in view.trials}


def fresh(
    space: SearchSpace,
    seen: set[Key],
    points: Iterable[npt.NDArray[np.float64]],
    rng: np.random.Generator,
) -> dict[str, ParamValue] | None:
    """The first legal configuration among ``points`` that is not in ``seen``; it is added to ``seen``.

    Where the points keep hitting what is known or illegal, one of the untried configurations is taken at
    random. None: the space is exhausted. In a continuous space that keeps hitting (one whose only
    continuous parameter is seldom active, say) a configuration is repeated.
    """
    size = space.cardinality
    if size is not None and len(seen) >= size:
        return None
    for params in islice(_legal(space, points), _DRAWS):
        key = space.key(params)
        if key not in seen:
            seen.add(key)
            return params
    if size is None:
        others = candidates(space, _DRAWS, rng)
        params = next((c for c in others if space.key(c) not in seen), others[0])
    else:
        # At most len(seen) configurations are passed over before an untried one comes.
        untried = list(islice((c for c in space.configurations() if space.key(c) not in seen), _LISTED))
        if not untried:
            return None
        params = untried[int(rng.integers(len(untried)))]
    seen.add(space.key(params))
    return params


def _legal(
    space: SearchSpace, points: Iterable[npt.NDArray[np.float64]]
) -> Iterator[dict[str, ParamValue]]:
    """The legal configurations of points; it gives up after a long row of illegal ones."""
    if not space.constrained:
        yield from map(space.decode, points)
        return
    source, barren = iter(points), 0
    while barren < _REJECTIONS and (block := list(islice(source, _DRAWS))):
        legal = space.layout.write(legalised(space, np.array(block)))
        barren = 0 if legal else barren + len(block)
        yield from legal
