"""Simpler estimators than the joint fit: points near each cell's optimum, and straight lines through
them.

``argmin``: the best run of each cell. ``pool``: all runs within 0.25 % of it, the Step Law's own way (Li
et al. 2025). ``cells``: the lowest point of a surface fitted to the cell alone, robustly: a quadratic, or
a quartic where there are runs enough. None has a shape that cells share, so none has a plateau or needs
one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

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
_REWEIGHTED, _SIGNS = 10, 20

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


@dataclass(frozen=True, slots=True)
class Polynomial:
    """A polynomial through the runs near the best of one cell."""

    degree: int
    middle: Array
    width: Array
    low: Array
    high: Array
    """(2,) the box of the runs within a third of SURFACE, where its lowest point is looked for."""

    def columns(self, places: Array) -> Array:
        """(m, coefficients) of ``places`` (m, 2)."""
        u, v = ((places - self.middle) / self.width).T
        return np.stack([u**i * v**j for i, j in _powers(self.degree)], 1)

    def fit(self, places: Array, excess: Array, force: Array) -> Array:
        """Coefficients, robustly: weights of Student's t times ``force`` (m,)."""
        near, robust = self.columns(places), np.ones(len(excess))
        for _ in range(_REWEIGHTED):
            now = force * np.sqrt(robust)
            coefficients = np.linalg.lstsq(near * now[:, None], excess * now, rcond=None)[0]
            residual = (excess - near @ coefficients) * force
            scale = np.median(np.abs(residual)) / 0.6745 + 1e-9
            robust = (_FREEDOM + 1) / (_FREEDOM + (residual / scale) ** 2)
        return np.asarray(coefficients)

    def grid(self) -> Array:
        """Places in the box, (_GRID squared, 2)."""
        axes = [np.linspace(self.low[k], self.high[k], _GRID) for k in (0, 1)]
        return np.stack([axis.ravel() for axis in np.meshgrid(*axes)], 1)


def polynomial(places: Array, excess: Array) -> Polynomial | None:
    """The polynomial that so many runs carry: a quartic, a quadratic, or None."""
    distinct = len(np.unique(places, axis=0))
    for degree in (4, 2):
        if distinct >= 2 * len(_powers(degree)) or (degree == 2 and distinct > len(_powers(degree))):
            inside = places[excess <= max(SURFACE / 3, np.sort(excess)[2])]
            return Polynomial(degree, places.mean(0), places.std(0) + 1e-9, inside.min(0), inside.max(0))
    return None


def lowest_point(places: Array, excess: Array, weights: Array, best: Array) -> Array:
    """(2,) where a polynomial through ``excess`` (m,) at ``places`` (m, 2) is lowest; ``best`` if
    there are too few runs for one."""
    surface = polynomial(places, excess)
    if surface is None:
        return best
    grid = surface.grid()
    coefficients = surface.fit(places, excess, np.sqrt(weights) * HALF / (HALF + excess))
    return np.asarray(grid[np.argmin(surface.columns(grid) @ coefficients)])


def optima_with_errors(cells: Cells, rng: np.random.Generator) -> tuple[Index, Array, Array]:
    """Cells with runs enough for a quartic of their own: which, (k,), where it is lowest, and standard
    errors of that, (k, 2) each.

    Errors are of fits to the surface with its residuals put back under random signs.
    """
    which, lowest, errors = [], [], []
    for cell in range(len(cells)):
        mine = np.flatnonzero(cells.of == cell)
        excess = cells.loss[mine] / cells.lowest[cell] - 1
        near = mine[excess <= SURFACE]
        places, excess = np.stack([cells.lr[near], cells.batch[near]], 1), excess[excess <= SURFACE]
        surface = polynomial(places, excess)
        if surface is None or surface.degree < 4:
            continue
        force, grid = HALF / (HALF + np.maximum(excess, 0.0)), surface.grid()
        columns, on_grid = surface.columns(places), surface.columns(grid)
        coefficients = surface.fit(places, excess, force)
        smooth = columns @ coefficients
        # Residuals of a fit are smaller than the noise, by the coefficients it has.
        residual = (excess - smooth) * np.sqrt(len(near) / (len(near) - columns.shape[1]))
        drawn = []
        for _ in range(_SIGNS):
            again = surface.fit(places, smooth + residual * rng.choice([-1.0, 1.0], len(near)), force)
            drawn.append(grid[np.argmin(on_grid @ again)])
        which.append(cell)
        lowest.append(grid[np.argmin(on_grid @ coefficients)])
        errors.append(np.std(drawn, axis=0) + (surface.high - surface.low) / _GRID)
    return np.array(which, dtype=np.intp), np.array(lowest).reshape(-1, 2), np.array(errors).reshape(-1, 2)


def _powers(degree: int) -> list[tuple[int, int]]:
    return [(i, j) for i in range(degree + 1) for j in range(degree + 1 - i)]
