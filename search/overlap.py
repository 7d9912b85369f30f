"""Configurations of one space on another: what an earlier study says of this one's parameters.

Parameters are matched by name. A value that this space's domain does not hold leaves the configuration out;
a parameter that the other space lacks is unknown; one that this space does not search is not looked at.
Numbers that lie between the values of a grid go to the nearest.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from search.domains import Choice, Domain, Fixed, ParamValue, Real, RealGrid, Whole
from search.space import SearchSpace

Array = npt.NDArray[np.float64]


def shared(space: SearchSpace, source: SearchSpace) -> tuple[str, ...]:
    """The searched parameters of ``space`` of which trials of ``source`` may say something."""
    names = {
        p.name
        for p in space.parameters
        if not isinstance(p.domain, Fixed)
        and p.name in source.by_name
        and _overlap(p.domain, source.by_name[p.name].domain)
    }
    for simplex in space.simplexes:
        if not names.issuperset(simplex.shares):
            names.difference_update(simplex.shares)
    return tuple(p.name for p in space.parameters if p.name in names)


def placed(space: SearchSpace, params: Mapping[str, ParamValue]) -> Array | None:
    """The point of the cube of another study's configuration, shape (d,), NaN where it says nothing.

    None: it has a value that this space does not hold, or nothing in common with it.
    """
    point = np.full(len(space.dimensions), np.nan)
    for place, name in enumerate(space.dimensions):
        if name in params:
            coordinate = _coordinate(space.by_name[name].domain, params[name])
            if coordinate is None:
                return None
            point[place] = coordinate
    for simplex, _, own in space.layout.groups:
        shares = [params.get(share) for share in simplex.shares]
        numbers = [float(share) for share in shares if isinstance(share, int | float)]
        whole = len(numbers) == len(shares) and abs(sum(numbers) - 1) < 1e-3
        point[own] = simplex.encode(np.array([numbers]))[0] if whole else np.nan
    return None if np.isnan(point).all() else point


def _coordinate(domain: Domain, value: ParamValue) -> float | None:
    """Where a value of another study lies in a domain's unit interval; None if it does not."""
    if isinstance(domain, Choice | Fixed):
        known = domain.canonical(value)
        return None if known is None else domain.encode(known)
    if isinstance(value, bool | str) or not domain.low <= value <= domain.high:
        return None
    if isinstance(domain, Whole):
        index = min(domain.size - 1, round((value - domain.low) / domain.step))
        return domain.encode(domain.low + domain.step * index)
    return domain.encode(value)


def _overlap(domain: Domain, other: Domain) -> bool:
    """Whether a value of ``other`` may have a place in ``domain``."""
    if isinstance(other, Choice):
        return any(_coordinate(domain, value) is not None for value in other.values)
    if isinstance(other, Fixed):
        return _coordinate(domain, other.value) is not None
    if isinstance(domain, Real | RealGrid | Whole):
        return max(domain.low, other.low) <= min(domain.high, other.high)
    assert isinstance(domain, Choice)
    return any(_coordinate(other, value) is not None for value in domain.values)
