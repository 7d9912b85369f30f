"""Candidates for new configurations: spread over the space, and near the best known ones."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from search.domains import Choice
from search.legal import legalised
from search.sampling import candidate_table
from search.space import SearchSpace
from search.table import Table

_TO_THE_END = 0.04
"""How often a coordinate goes to an end of its range: optima often lie on the boundary."""
_CORNERED = 0.3
"""How often a coordinate of a spread candidate does."""


def spread(space: SearchSpace, count: int, rng: np.random.Generator) -> Table:
    """About ``count`` legal configurations over the whole space, half of them near its faces."""
    inside = candidate_table(space, count - count // 2, rng)
    points = rng.random((count // 2, len(space.layout.searched)))
    cornered = rng.random(points.shape) < _CORNERED
    return Table.concat([inside, legalised(space, np.where(cornered, np.round(points), points))])


def near(
    space: SearchSpace, bases: Table, count: int, scales: Sequence[float], rng: np.random.Generator
) -> Table:
    """At most ``count`` legal configurations, each a few changes away from one of ``bases``.

    A numeric coordinate takes a normal step of one of ``scales`` (in the unit cube; it stays at an end that
    it would pass) or, seldom, goes to an end; a choice, and what becomes active, is drawn anew.
    """
    width = len(space.layout.searched)
    if width == 0 or not len(bases):
        return bases.take(slice(0))
    chosen = rng.integers(len(bases), size=count)
    start, active = space.layout.encode(bases)[chosen], bases.active[chosen]
    changed = rng.random((count, width)) < max(2 / width, 0.3)
    changed[np.arange(count), rng.integers(width, size=count)] = True
    points = start + changed * rng.standard_normal((count, width)) * rng.choice(scales, size=(count, 1))
    anew = rng.random((count, width))
    for place, column in enumerate(space.layout.searched):
        domain = space.layout.parameters[column].domain
        if isinstance(domain, Choice) and domain.kind != "ordered":
            points[:, place] = np.where(changed[:, place], anew[:, place], start[:, place])
        elif domain.size is not None:
            # A step shorter than a cell would change nothing.
            cell = np.sign(points[:, place] - start[:, place]) / domain.size
            longer = np.abs(points[:, place] - start[:, place]) < np.abs(cell)
            points[:, place] = np.where(longer, start[:, place] + cell, points[:, place])
        # What was not active has no place to step from.
        points[:, place] = np.where(active[:, column], points[:, place], anew[:, place])
    ends = rng.random((count, width)) < _TO_THE_END
    points = np.where(ends, np.round(anew), points)
    return legalised(space, np.clip(points, 0.0, 1.0))
