"""What ``autolrs`` computes: the rate to try next, and the loss that a rate would end a stage with.

A plan is run from its beginning for every decision, so what was computed before is kept.
"""

from __future__ import annotations

import math
import warnings
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.interpolate import UnivariateSpline
from scipy.optimize import minimize_scalar
from sklearn.exceptions import ConvergenceWarning
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel

from search.strategies.plans import Result
from search.strategies.rate import Rate

DIVERGED = 1e6
"""The loss of a try that diverged."""
_KAPPA = 1e6
_RATES = 500
"""Rates among which the bound is lowest."""
_LEAST_POINTS = 4
"""Losses that the forecaster needs; with fewer the last one counts."""


@lru_cache(maxsize=1024)
def next_rate(rate: Rate, tries: tuple[tuple[float, float], ...], seed: int, stage: int) -> float:
    """The rate to try next, after ``tries``: rates with the losses that were forecast for them."""
    low, high = math.log(rate.low), math.log(rate.high)
    if not tries:
        return math.exp(np.random.default_rng([seed, stage]).uniform(low, high))
    grid = np.linspace(0, 1, _RATES)
    known = (np.log([rate for rate, _ in tries]) - low) / (high - low)
    kernel = ConstantKernel(1.0, (0.01, 1000.0)) * Matern(0.3, (0.01, 100.0), nu=2.5)
    model = GaussianProcessRegressor(
        kernel + WhiteKernel(1e-3, (1e-8, 1.0)), normalize_y=True, random_state=0
    )
    with warnings.catch_warnings():
        # With so few points a parameter of the kernel often ends at its bound.
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(known[:, None], [loss for _, loss in tries])
    mean, sd = model.predict(grid[:, None], return_std=True)
    untried = np.abs(grid[:, None] - known).min(axis=1) > 1 / _RATES
    bound = np.where(untried, mean - _KAPPA * sd, np.inf)
    return math.exp(low + float(grid[int(np.argmin(bound))]) * (high - low))


@lru_cache(maxsize=1024)
def forecast(result: Result, end: int) -> float:
    """The loss that a rate is expected to have at the end of the stage, from those of its try."""
    losses = np.array([loss for _, loss in result.curve], dtype=np.float64)
    if not math.isfinite(result.loss) or not np.isfinite(losses).all():
        return DIVERGED
    if len(losses) < _LEAST_POINTS:
        return result.loss
    steps = np.array([step for step, _ in result.curve], dtype=np.float64)
    first, length = steps[0], steps[-1] - steps[0]
    x = (steps - first) / length
    off = np.abs(losses - _smooth(x, losses, x))
    off[len(off) // 2 :] = 0.0  # of the later half none is left out
    kept = np.arange(len(x)) != int(np.argmax(off))
    smooth = _smooth(x[kept], losses[kept], x) if kept.sum() >= _LEAST_POINTS else _smooth(x, losses, x)

    def fitted(log_speed: float) -> tuple[npt.NDArray[np.float64], float]:
        basis = np.stack([np.exp(-math.exp(log_speed) * x), np.ones_like(x)], axis=1)
        found = np.linalg.lstsq(basis, smooth, rcond=None)[0]
        return found, float(((basis @ found - smooth) ** 2).sum())

    best = minimize_scalar(lambda b: fitted(b)[1], bounds=(-5.0, 5.0), method="bounded")
    (a, c), _ = fitted(float(best.x))
    return float(a * math.exp(-math.exp(float(best.x)) * (end - first) / length) + c)


def _smooth(x: npt.NDArray[np.float64], y: npt.NDArray[np.float64], at: npt.NDArray[np.float64]) -> Any:
    return UnivariateSpline(x, y, k=2)(at)
