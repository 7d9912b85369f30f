"""Drawing configurations: legal ones in bulk, ones near another, and ones that the study has not tried yet.

Everything is a function of the space and of the generator that is passed in.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice

import numpy as np
import numpy.typing as npt

from search.domains import Choice, Domain, Real, RealGrid, Whole
from search.legal import legalised, walked
from search.space import Key, ParamValue, SearchSpace
from search.table import Array, Table, encode_column
from search.view import StudyView

_DRAWS = 256
"""Points drawn before the untried configurations of a finite space are listed instead."""
_LISTED = 4_096
"""Untried configurations from which one is then chosen."""
_REJECTIONS = 16_384
"""Points of the cube tried for a legal one before the constraints are solved instead."""
_BLOCK = 2_048
"""Most points decoded at a time."""
_ATTEMPTS = 6
"""Rounds of ever shorter steps from a configuration to its neighbours."""


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
    found = [space.layout.decode(np.empty((0, dimensions)))]
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
        found.append(walked(space, missing, Table.concat(found), rng))
    return Table.concat(found)


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
    base = space.layout.read([params])
    found: list[Table] = []
    missing = count
    for attempt in range(_ATTEMPTS if space.constrained else 1):
        points = _steps(space, base, max(missing, 64), scale * 0.5**attempt, rng)
        found.append(legalised(space, points).take(slice(missing)))
        missing -= len(found[-1])
        if missing == 0:
            break
    if missing:
        found.append(candidate_table(space, missing, rng))
    return space.layout.write(Table.concat(found))


def _steps(space: SearchSpace, base: Table, count: int, scale: float, rng: np.random.Generator) -> Array:
    """Points of the cube near the one configuration of ``base``, shape (count, d)."""
    searched, start = space.layout.searched, space.layout.encode(base)[0]
    redraw = max(0.05, 0.5 / max(1, len(searched)))
    stepped: Array = np.abs(start + scale * rng.standard_normal((count, len(searched))))
    points: Array = np.clip(np.where(stepped > 1, 2 - stepped, stepped), 0.0, 1.0)
    anew, again = rng.random((count, len(searched))), rng.random((count, len(searched))) < redraw
    for place, column in enumerate(searched):
        domain = space.layout.parameters[column].domain
        if not base.active[0, column]:
            points[:, place] = anew[:, place]
        elif isinstance(domain, Choice) and domain.kind != "ordered":
            points[:, place] = np.where(again[:, place], anew[:, place], start[place])
        elif not isinstance(domain, Real):
            # Where a step is much shorter than a cell, nothing would ever change.
            below, above = _beside(domain, base.codes[0, column])
            one = np.where(anew[:, place] < 0.5, below, above)
            points[:, place] = np.where(again[:, place], one, points[:, place])
    for simplex, columns, own in space.layout.groups:
        if base.active[0, columns[0]]:
            roots = np.sqrt((base.codes[0, columns] - simplex.low).clip(0))
            roots = roots / max(np.linalg.norm(roots), 1e-12)
            roots = np.abs(roots + scale * rng.standard_normal((count, len(columns))))
            points[:, own] = simplex.encode(simplex.rounded(roots**2))
    return points


def _beside(domain: Domain, code: float) -> tuple[float, float]:
    """The coordinates of the values below and above one of a finite, ordered domain; its own at an end."""
    if isinstance(domain, RealGrid):
        index = domain.index(code)
        codes = np.array([domain.at(max(0, index - 1)), domain.at(min(domain.size - 1, index + 1))])
    elif isinstance(domain, Whole):
        last = domain.at(domain.size - 1)
        codes = np.array([max(domain.low, code - domain.step), min(last, code + domain.step)])
    else:
        codes = np.clip([code - 1, code + 1], 0, (domain.size or 1) - 1)
    below, above = encode_column(domain, codes).tolist()
    return below, above


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
    random. None: the space is exhausted (one that is too large to be counted, or whose continuous
    parameters are pinned down by constraints: no draw brought a new one). In a space that keeps hitting
    because its only continuous parameter is seldom active, a configuration is repeated.
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
        others = candidates(space, _LISTED if space.finite else _DRAWS, rng)
        untried = [c for c in others if space.key(c) not in seen]
        if not untried and (space.finite or _pinned(space, others)):
            return None
        params = (untried or others)[0]
    else:
        # At most len(seen) configurations are passed over before an untried one comes.
        untried = list(islice((c for c in space.configurations() if space.key(c) not in seen), _LISTED))
        if not untried:
            return None
        params = untried[int(rng.integers(len(untried)))]
    seen.add(space.key(params))
    return params


def _pinned(space: SearchSpace, drawn: Sequence[Mapping[str, ParamValue]]) -> bool:
    """Whether ``drawn``, of which nothing is new, have a value for every continuous parameter: then the
    constraints leave it no choice, since a free one would have had a new value."""
    endless = [p.name for p in space.parameters if p.domain.size is None]
    return all(any(name in params for params in drawn) for name in endless)


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
