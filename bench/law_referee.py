"""A neutral judge of learning rates and batches: a surface fitted to one cell alone, by none of our
models.

A referee is fitted to the runs of a cell within ``NEAR`` of its best in log loss; runs count ``HALF /
(HALF + excess)``, squared. Which smoother it is was chosen by the error with which it foretells a run
left out, among those within ``SCORED`` of the best (:func:`scores`): a quadratic is far off, for the
surface is lopsided.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize

from search.laws.base import Array

NEAR = 0.03
HALF = 0.005
SCORED = 0.0075
_CLIPPED = 0.002
"""Errors count no more than this in a score: single odd runs are nobody's fault."""
_FREEDOM = 4.0
_GRID = 61

Surface = Callable[[Array], Array]
"""Log loss at places (m, 2)."""
Smoother = Callable[[Array, Array, Array], Surface]
"""Of places (r, 2), log losses (r,) and weights (r,) of residuals."""


def polynomial(degree: int) -> Smoother:
    """A polynomial, robustly: weights of Student's t, by the median of the residuals."""

    def columns(z: Array) -> Array:
        powers = [(i, j) for i in range(degree + 1) for j in range(degree + 1 - i)]
        return np.stack([z[:, 0] ** i * z[:, 1] ** j for i, j in powers], 1)

    def fit(z: Array, y: Array, weights: Array) -> Surface:
        design, robust = columns(z), np.ones(len(y))
        for _ in range(15):
            force = weights * robust
            coefficients = np.linalg.lstsq(design * force[:, None], y * force, rcond=None)[0]
            residual = (y - design @ coefficients) * weights
            free = max(len(y) - design.shape[1], 1)
            scale = np.median(np.abs(residual)) / 0.6745 * np.sqrt(len(y) / free) + 1e-12
            robust = np.sqrt((_FREEDOM + 1) / (_FREEDOM + (residual / scale) ** 2))
        return lambda at: np.asarray(columns(at) @ coefficients)

    return fit


def gaussian_process(z: Array, y: Array, weights: Array) -> Surface:
    """A Gaussian process about a quadratic, by its marginal likelihood."""

    def trend(at: Array) -> Array:
        u, v = at.T
        return np.stack([np.ones_like(u), u, v, u * u, u * v, v * v], 1)

    def kernel(a: Array, b: Array, theta: Array) -> Array:
        distance = (((a[:, None] - b[None]) / np.exp(theta[:2])) ** 2).sum(-1)
        return np.asarray(np.exp(2 * theta[2] - 0.5 * distance))

    design = trend(z)

    def parts(theta: Array) -> tuple[Array, Array, Array, Array]:
        cover = kernel(z, z, theta) + np.diag(np.exp(2 * theta[3]) / weights**2)
        root = np.asarray(np.linalg.cholesky(cover + 1e-12 * np.eye(len(z))), np.float64)
        columns, target = np.linalg.solve(root, design), np.linalg.solve(root, y)
        inner = columns.T @ columns
        coefficients: Array = np.linalg.solve(inner, columns.T @ target)
        return root, coefficients, target - columns @ coefficients, inner

    def cost(theta: Array) -> float:
        root, _, residual, inner = parts(theta)
        fit = 0.5 * residual @ residual + np.log(np.diag(root)).sum() + 0.5 * np.linalg.slogdet(inner)[1]
        return float(fit + 0.5 * (theta[:2] ** 2).sum())

    bounds = [(-1.5, 2.5), (-1.5, 2.5), (-9.0, 0.0), (-10.0, -4.0)]
    first = [0.3, 0.3, np.log(5e-3), np.log(5e-4)]
    theta = minimize(cost, first, method="L-BFGS-B", bounds=bounds).x
    root, coefficients, residual, _ = parts(theta)
    pull = np.linalg.solve(root.T, residual)
    return lambda at: np.asarray(trend(at) @ coefficients + kernel(at, z, theta) @ pull)


SMOOTHERS: Mapping[str, Smoother] = {
    "quadratic": polynomial(2),
    "cubic": polynomial(3),
    "quartic": polynomial(4),
    "quintic": polynomial(5),
    "gaussian process": gaussian_process,
}
CHOSEN, SECOND = "quartic", "gaussian process"


@dataclass(frozen=True, slots=True)
class Referee:
    """Places are (log lr, log batch)."""

    surface: Surface
    middle: Array
    best: Array
    """(2,) where the surface is lowest, within the box of the runs it was fitted to."""
    lowest: float

    def excess(self, place: Array) -> float:
        """Of the loss at ``place`` (2,) over the lowest, as a share."""
        return float(np.expm1(self.surface((place - self.middle)[None])[0] - self.lowest))


def referee(places: Array, loss: Array, smoother: Smoother) -> Referee:
    """The judge of one cell: ``places`` (r, 2), ``loss`` (r,)."""
    z, y, weights, middle = _near(places, loss)
    surface = smoother(z, y, weights)
    low, high = z.min(0), z.max(0)
    axes = [np.linspace(low[k], high[k], _GRID) for k in (0, 1)]
    grid = np.stack([axis.ravel() for axis in np.meshgrid(*axes)], 1)
    begin = grid[np.argmin(surface(grid))]
    found = minimize(
        lambda at: float(surface(np.clip(at, low, high)[None])[0]),
        begin,
        method="Nelder-Mead",
        options={"xatol": 1e-4, "fatol": 1e-9},
    )
    return Referee(surface, middle, np.clip(found.x, low, high) + middle, float(found.fun))


def left_out_error(places: Array, loss: Array, smoother: Smoother) -> float:
    """The root mean square error at runs near the best that were left out, each clipped; a share of
    the loss."""
    z, y, weights, _ = _near(places, loss)
    errors = []
    for run in np.flatnonzero(y < SCORED):
        kept = np.arange(len(y)) != run
        errors.append(y[run] - smoother(z[kept], y[kept], weights[kept])(z[run : run + 1])[0])
    return float(np.sqrt((np.clip(errors, -_CLIPPED, _CLIPPED) ** 2).mean()))


def floor(
    places: Array, loss: Array, smoother: Smoother, rng: np.random.Generator, times: int = 20
) -> float:
    """What the referee of this cell, with its noise, would say of the true optimum, were its surface the
    truth.

    Residuals are drawn again (with random signs); no law can be expected to be judged lower on average.
    """
    z, y, weights, _ = _near(places, loss)
    truth = smoother(z, y, weights)
    judged = referee(places, loss, smoother)
    smooth = truth(z)
    residual = y - smooth
    found = []
    for _ in range(times):
        drawn = np.exp(smooth + residual * rng.choice([-1.0, 1.0], len(y)))
        again = referee(z, drawn, smoother)
        found.append(again.excess(judged.best - judged.middle))
    return float(np.mean(found))


def _near(places: Array, loss: Array) -> tuple[Array, Array, Array, Array]:
    y = np.log(loss / loss.min())
    near = y < NEAR
    middle = places[y < 0.01].mean(0)
    return places[near] - middle, y[near], HALF / (HALF + y[near]), middle
