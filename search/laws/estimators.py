"""Simpler estimators than the joint fit: points near each cell's optimum, and straight lines through
them.

``argmin``: the best run of each cell. ``pool``: all runs within 0.25 % of it, the Step Law's own way (Li
et al. 2025). ``cells``: the lowest point of a surface fitted to the cell alone, robustly: a quadratic, or
a quartic where there are runs enough. None has a shape that cells share, so none has a plateau or needs
one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from search.laws.base import Array
from search.laws.cells import Cells, Index

NEAR = 0.0025
"""Of the best run's loss: what ``pool`` takes for near-optimal, as the Step Law does."""
SURFACE = 0.03
"""Runs within so much of the best shape a cell's own surface,"""
HALF = 0.005
"""and count half as much at this excess as at none."""
SCATTER = 0.15
"""Of points about their law, in log units: what the priors of exponents are weighed against."""
_FREEDOM = 4.0
_GRID = 41

Points = tuple[Index, Array, Array]
"""Cells (m,), places (m, 2) in (log lr, log batch), weights (m,)."""
Estimator = Callable[[Cells, Array], Points]
"""Points of the cells, where runs have whole-numbered weights (r,): how often each was drawn."""


def argmin(cells: Cells, weights: Array) -> Points:
    """The best run of each cell."""
    found = []
    for cell in range(len(cells)):
        mine = np.flatnonzero((cells.of == cell) & (weights > 0))
        if len(mine):
            found.append(mine[np.argmin(cells.loss[mine])])
    at = np.array(found)
    return cells.of[at], np.stack([cells.lr[at], cells.batch[at]], 1), np.ones(len(at))


def pool(cells: Cells, weights: Array) -> Points:
    """All runs within NEAR of the best of their cell; each counts alike, as in the paper."""
    loss = np.where(weights > 0, cells.loss, np.inf)
    lowest = np.minimum.reduceat(loss, cells.start)
    at = np.flatnonzero(loss <= lowest[cells.of] * (1 + NEAR))
    return cells.of[at], np.stack([cells.lr[at], cells.batch[at]], 1), weights[at]


def surfaces(cells: Cells, weights: Array) -> Points:
    """The lowest point of each cell's own surface; of the best run, where there are too few for a
    surface."""
    index, best, ones = argmin(cells, weights)
    places = best.copy()
    for k, cell in enumerate(index):
        mine = np.flatnonzero((cells.of == cell) & (weights > 0))
        excess = cells.loss[mine] / cells.loss[mine].min() - 1
        near = mine[excess <= SURFACE]
        places[k] = lowest_point(
            np.stack([cells.lr[near], cells.batch[near]], 1),
            cells.loss[near] / cells.loss[near].min() - 1,
            weights[near],
            best[k],
        )
    return index, places, ones


BY_NAME: Mapping[str, Estimator] = {"cells": surfaces, "pool": pool, "argmin": argmin}


def lines(points: Points, features: Array, cell_weights: Array, mean: Array, deviation: Array) -> Array:
    """(q, 2) coefficients of ``features`` (c, q) for log lr and log batch, by weighted ridge regression.

    ``mean`` and ``deviation`` (q,) are of the prior.
    """
    index, places, weights = points
    rows, force = features[index], weights * cell_weights[index] / SCATTER**2
    precision = 1 / deviation**2
    bend = (rows * force[:, None]).T @ rows + np.diag(precision)
    return np.asarray(
        np.linalg.solve(bend, (rows * force[:, None]).T @ places + (precision * mean)[:, None])
    )


def lowest_point(places: Array, excess: Array, weights: Array, best: Array) -> Array:
    """(2,) where a polynomial through ``excess`` (m,) at ``places`` (m, 2) is lowest, in the box of
    the places within a third of SURFACE; ``best`` if it cannot be told."""
    for degree in (4, 2):
        powers = [(i, j) for i in range(degree + 1) for j in range(degree + 1 - i)]
        if len(np.unique(places, axis=0)) >= 2 * len(powers) or (degree == 2 and len(places) > len(powers)):
            break
    else:
        return best
    middle, width = places.mean(0), places.std(0) + 1e-9

    def columns(at: Array) -> Array:
        u, v = ((at - middle) / width).T
        return np.stack([u**i * v**j for i, j in powers], 1)

    near, base = columns(places), np.sqrt(weights) * HALF / (HALF + excess)
    robust = np.ones(len(excess))
    for _ in range(10):
        force = base * np.sqrt(robust)
        coefficients = np.linalg.lstsq(near * force[:, None], excess * force, rcond=None)[0]
        residual = (excess - near @ coefficients) * base
        scale = np.median(np.abs(residual)) / 0.6745 + 1e-9
        robust = (_FREEDOM + 1) / (_FREEDOM + (residual / scale) ** 2)
    inside = places[excess <= max(SURFACE / 3, np.sort(excess)[min(2, len(excess) - 1)])]
    low, high = inside.min(0), inside.max(0)
    grid = np.stack(
        [axis.ravel() for axis in np.meshgrid(*(np.linspace(low[k], high[k], _GRID) for k in (0, 1)))], 1
    )
    return np.asarray(grid[np.argmin(columns(grid) @ coefficients)])
