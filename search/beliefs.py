"""Using what the user thinks of where good values lie, less and less as results come in.

After Hvarfner et al., "piBO: Augmenting Acquisition Functions with User Beliefs for Bayesian Optimization"
(2022): an acquisition function is multiplied by the density of the belief, raised to a power that falls
towards zero with the number of observations. A belief that is right helps from the first trial on; one that
is wrong costs some trials and is then forgotten.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from search.domains import Choice, Domain, Fixed, ParamValue
from search.legal import legalised
from search.parameters import Belief
from search.sampling import candidate_table
from search.space import SearchSpace
from search.table import Array, Table, decode_column

HALF_LIFE = 10.0
"""Observations after which a belief weighs half as much."""
_CELLS = 2_048
"""Pieces of the unit interval on which a belief's density is tabulated."""
_RESAMPLED = 8
"""Candidates from which one is resampled, where constraints are too narrow to draw by belief directly."""


def has_beliefs(space: SearchSpace) -> bool:
    """Whether any parameter carries a belief."""
    return any(p.belief is not None for p in space.parameters)


def weight(observations: int, half_life: float = HALF_LIFE) -> float:
    """The power to which a belief's density is raised after so many observations, in (0, 1].

    It is 1 / (1 + n / half_life): the beta / n of piBO, without its pole at 0.
    """
    return 1.0 / (1.0 + observations / half_life)


def log_prior(space: SearchSpace, configurations: Sequence[Mapping[str, ParamValue]]) -> Array:
    """The log-density of the beliefs at legal configurations, shape (n,).

    The density is that of a point of the unit cube, with the mean 1 in each parameter's coordinate. So a
    configuration that lacks a parameter is neither better nor worse for what is believed of it, and without
    beliefs the answer is 0 everywhere. Parameters are believed independent.
    """
    return log_prior_of(space, space.layout.read(configurations))


def log_prior_of(space: SearchSpace, table: Table) -> Array:
    """:func:`log_prior` of configurations that are columns already."""
    density = np.zeros(len(table))
    for column, p in enumerate(space.parameters):
        if p.belief is not None:
            own = p.belief.log_density(table.codes[:, column]) - _tabulated(p.domain, p.belief).log_mean
            density += np.where(table.active[:, column], own, 0.0)
    return density


def believed_candidates(
    space: SearchSpace, count: int, rng: np.random.Generator, power: float = 1.0
) -> list[dict[str, ParamValue]]:
    """``count`` legal configurations, drawn with the density of the beliefs raised to ``power``.

    Parameters without a belief are drawn evenly. Raises as :func:`~search.sampling.candidates` does.
    """
    points = rng.random((4 * count if space.constrained else count, len(space.layout.searched)))
    table = legalised(space, _warped(space, points, power)).take(slice(count))
    missing = count - len(table)
    if missing:
        more = candidate_table(space, _RESAMPLED * missing, rng)
        log_weights = power * log_prior_of(space, more)
        chances = np.exp(log_weights - log_weights.max())
        table = Table.concat(
            [table, more.take(rng.choice(len(more), missing, replace=False, p=_smoothed(chances)))]
        )
    return space.layout.write(table)


def leaning(
    space: SearchSpace, points: Iterable[npt.NDArray[np.float64]], start: int
) -> Iterator[npt.NDArray[np.float64]]:
    """Points of the cube, of which a share that falls with their number lean to the beliefs.

    Point ``i`` (from ``start``, the number of trials so far) would be drawn by belief with the chance
    ``weight(i)``. Instead of chance, those are taken at which the sum of these chances passes a whole
    number, the first of all being one; so the same place in a sequence always leans the same way.
    """
    if not has_beliefs(space):
        yield from points
        return
    passed = sum(weight(i) for i in range(start))
    for i, point in enumerate(points, start):
        before, passed = passed, passed + weight(i)
        # Rounding must not keep the very first, with a chance of exactly 1, from leaning.
        leans = np.floor(passed + 1e-9) > np.floor(before + 1e-9)
        yield _warped(space, point[None], 1.0)[0] if leans else point


@dataclass(frozen=True, slots=True)
class _Tabulated:
    """A belief on the unit interval of its parameter."""

    log_density: Array
    """In the middle of each cell, shape (cells,)."""
    log_mean: float


@lru_cache(maxsize=256)
def _tabulated(domain: Domain, belief: Belief) -> _Tabulated:
    middles = (np.arange(_CELLS) + 0.5) / _CELLS
    log_density = belief.log_density(decode_column(domain, middles))
    # A belief so narrow that all is 0 leaves the nearest cell.
    peak = log_density.max()
    return _Tabulated(log_density, float(peak + np.log(np.exp(log_density - peak).mean())))


def _warped(space: SearchSpace, points: Array, power: float) -> Array:
    """Uniform points of the cube moved to where the beliefs are, shape (n, d)."""
    points = points.copy()
    for place, column in enumerate(space.layout.searched):
        p = space.parameters[column]
        if p.belief is None or isinstance(p.domain, Choice | Fixed):
            continue
        log_density = power * _tabulated(p.domain, p.belief).log_density
        cumulative = np.concatenate([[0.0], np.cumsum(np.exp(log_density - log_density.max()))])
        points[:, place] = np.interp(
            points[:, place], cumulative / cumulative[-1], np.linspace(0.0, 1.0, _CELLS + 1)
        )
    return points


def _smoothed(chances: Array) -> Array:
    """Probabilities, none of them 0, so that there are always enough to choose from."""
    raised = chances + 1e-12
    return np.asarray(raised / raised.sum())
