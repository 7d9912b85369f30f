"""Is a fitted posynomial true to its runs: do a few of them decide it, do its residuals bend?"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import f as fisher

from search.laws.base import Array
from search.laws.posynomial import Problem

WORST_SHARE = 0.02
"""So many of the runs, at least one, are left out to see what they decide."""
FEWEST_TO_LEAVE_OUT = 20
"""Below so many runs none is left out: each decides."""
_WINSOR = 3.0
"""Residuals beyond so many robust standard deviations count as that far, in the test for a bend."""


@dataclass(frozen=True, slots=True)
class Bend:
    """A smooth bend that the law does not have, fitted to its residuals."""

    p: float
    """Chance of residuals that bend so much, if the law were true."""
    size: float
    """The largest size of the bend over the runs, as a share of the loss."""


def without_worst(problem: Problem, theta: Array) -> tuple[int, Array, Array]:
    """How many runs of the largest residuals are left out (0: there are too few), the fit then, its errors.

    Standard errors are those of least absolute deviations, which Huber's function with its small delta
    almost is, under normal noise: of the residuals' variance times pi / 2 (J^T J)^-1.
    """
    runs = len(problem.log_y)
    if runs < FEWEST_TO_LEAVE_OUT:
        return 0, theta, np.full(len(theta), np.inf)
    count = math.ceil(WORST_SHARE * runs)
    fitted, _ = problem.log_values(theta)
    weights = np.ones(runs)
    weights[np.argsort(np.abs(problem.log_y - fitted), kind="stable")[-count:]] = 0.0
    found = problem.polish(theta, weights)[0]
    fitted, slopes = problem.log_values(found)
    variance = np.pi / 2 * robust_deviation(problem.log_y - fitted) ** 2
    return count, found, np.sqrt(np.diag(variance * np.linalg.pinv(slopes.T @ slopes)))


def robust_deviation(residuals: Array) -> float:
    """The standard deviation, by the median of absolute distances from the median."""
    return float(1.4826 * np.median(np.abs(residuals - np.median(residuals))))


def bend(problem: Problem, theta: Array, term: int, log_x: Array) -> Bend:
    """An F test of the residuals for a bend in one term, of the variable ``log_x`` (m,), centred.

    A broken power law (Caballero et al. 2022) lets the logarithm of a term bend; here by a square and a
    cube of the logarithm of its variable, which change the loss by the term's share of it. What the law's
    own parameters can do is projected out. Residuals are winsorized, so that a few wild runs are not taken
    for a bend.
    """
    fitted, own = problem.log_values(theta)
    residuals = problem.log_y - fitted
    scale = robust_deviation(residuals)
    residuals = np.clip(residuals, -_WINSOR * scale, _WINSOR * scale)
    share = np.exp(problem.terms[term] @ theta - fitted)
    columns = np.column_stack([share * log_x**2, share * log_x**3])
    base = _orthonormal(own)
    extra = _orthonormal(columns - base @ (base.T @ columns))
    left = residuals - base @ (base.T @ residuals)
    bent = extra @ (extra.T @ left)
    spare = len(residuals) - base.shape[1] - extra.shape[1]
    if spare < 1 or extra.shape[1] == 0:
        return Bend(1.0, 0.0)
    rest = float(np.sum((left - bent) ** 2)) / spare
    ratio = float(np.sum(bent**2)) / extra.shape[1] / max(rest, 1e-300)
    return Bend(float(fisher.sf(ratio, extra.shape[1], spare)), float(np.abs(bent).max()))


def _orthonormal(columns: Array) -> Array:
    """A basis of what the columns span; directions that are almost zero are left out."""
    scaled = columns / np.maximum(np.linalg.norm(columns, axis=0), 1e-300)
    left, size, _ = np.linalg.svd(scaled, full_matrices=False)
    kept: NDArray[np.bool_] = size > 1e-6
    return np.asarray(left[:, kept])
