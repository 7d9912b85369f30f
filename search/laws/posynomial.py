"""Robust fits of posynomials: sums of power laws with positive coefficients.

A posynomial of ``k`` terms in ``p`` parameters is held in logarithms, where each term is linear in the
parameters: ``log y_i = logsumexp_t(X[t, i] @ theta)``, X of shape (k, m, p). The loss law
``E + A / N^alpha + B / D^beta`` is one, with theta = (log E, log A, alpha, log B, beta).

The objective is Hoffmann et al.'s (2022, approach 3): Huber's function of the residuals in log y, with
delta 1e-3, summed over the runs. It is minimized by L-BFGS with its exact gradient, from several starts,
within a box that keeps exponents finite where the data do not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize, nnls
from scipy.stats import t as student

from search.laws.base import Array, Interval, Progress

Groups = NDArray[np.signedinteger[Any]]

DELTA = 1e-3
_CONFIDENCE = 0.9


@dataclass(frozen=True, slots=True)
class Problem:
    """``terms``: shape (k, m, p); ``log_y``: shape (m,); ``bounds``: (low, high) of each parameter."""

    terms: Array
    log_y: Array
    bounds: Sequence[tuple[float, float]]
    delta: float = DELTA
    """Residuals beyond it count by their absolute value; infinite for least squares."""

    def objective(self, theta: Array, weights: Array) -> tuple[float, Array]:
        """Huber's objective over ``DELTA``, and its gradient: about the sum of absolute residuals."""
        k, m, p = self.terms.shape
        z = (self.terms.reshape(k * m, p) @ theta).reshape(k, m)
        top = z.max(axis=0)
        parts = np.exp(z - top)
        total = parts.sum(axis=0)
        residuals = top + np.log(total) - self.log_y
        clipped = np.clip(residuals, -self.delta, self.delta)
        value = float(weights @ (clipped * residuals - 0.5 * clipped * clipped)) / DELTA
        slopes = (parts * (weights * clipped / (total * DELTA))).reshape(k * m)
        return value, slopes @ self.terms.reshape(k * m, p)

    def huber(self, theta: Array) -> float:
        """The objective as published: summed over the runs."""
        return self.objective(theta, np.ones(len(self.log_y)))[0] * DELTA

    def log_values(self, theta: Array) -> tuple[Array, Array]:
        """Fitted log y, shape (m,), and its derivatives by the parameters, shape (m, p)."""
        z = self.terms @ theta
        top = z.max(axis=0)
        parts = np.exp(z - top)
        total = parts.sum(axis=0)
        return top + np.log(total), np.einsum("tm,tmp->mp", parts / total, self.terms)

    def polish(self, start: Array, weights: Array) -> tuple[Array, float]:
        """The nearest minimum and its objective (over DELTA)."""
        found = minimize(
            self.objective,
            start,
            args=(weights,),
            jac=True,
            method="L-BFGS-B",
            bounds=self.bounds,
            options={"maxiter": 1_000, "maxcor": 20, "ftol": 1e-10, "gtol": 1e-8},
        )
        return found.x, float(found.fun)

    def fit(self, starts: Sequence[Array], polished: int = 8) -> Array:
        """The best minimum from the ``polished`` best of the starts."""
        ones = np.ones(len(self.log_y))
        low, high = np.array(self.bounds).T
        inside = [np.clip(start, low, high) for start in starts]
        ranked = sorted(inside, key=lambda start: self.objective(start, ones)[0])
        return min((self.polish(start, ones) for start in ranked[:polished]), key=lambda found: found[1])[0]


def bootstrap(
    fits: Sequence[tuple[Problem, Array]], groups: Groups, draws: int, seed: int, progress: Progress
) -> tuple[Groups, Array]:
    """Fits to reweighted runs: which of ``fits`` is best, shape (draws,), and its theta, shape (draws, p).

    The Bayesian bootstrap (Rubin 1981): each group of runs gets an exponential weight, so that no draw
    lacks what it needs to be fitted. ``fits``: forms of the law on the same runs, with the theta to start
    from. ``groups``: shape (m,), the index of each run's group.
    """
    rng = np.random.default_rng(seed)
    count = int(groups.max()) + 1
    which = np.zeros(draws, dtype=np.intp)
    found = np.empty((draws, len(fits[0][1])))
    for draw in range(draws):
        weights = rng.exponential(size=count)[groups]
        weights /= weights.mean()
        minima = [problem.polish(theta, weights) for problem, theta in fits]
        which[draw] = int(np.argmin([value for _, value in minima]))
        found[draw] = minima[which[draw]][0]
        progress((draw + 1) / draws)
    return which, found


def start_from(relative: Array) -> Array:
    """Coefficients of the terms, at least 1e-3, that are best in least squares of y at given exponents.

    ``relative``: shape (k, m), each term with coefficient 1, over y.
    """
    coefficients = nnls(relative.T, np.ones(relative.shape[1]))[0]
    floor = 1e-3 / relative.mean(axis=1)
    return np.asarray(np.maximum(coefficients, floor))


def interval(value: float, draws: Array, groups: int, parameters: int, *, log: bool) -> Interval:
    """The 90 % interval around ``value`` from bootstrap draws, expanded for few groups.

    Draws of few groups spread too little (Hesterberg 2015, "What teachers should know about the
    bootstrap"): the distances of their percentiles from the value are multiplied by Student's quantile,
    with ``groups`` less ``parameters`` degrees of freedom, over the normal one. With ``log`` they are
    distances of logarithms.
    """
    spare = max(groups - parameters, 1)
    tail = (1 + _CONFIDENCE) / 2
    factor = student.ppf(tail, spare) / student.ppf(tail, np.inf)
    if log:
        floor = 1e-300
        low, high = np.quantile(np.log(np.maximum(draws, floor)), [1 - tail, tail])
        centre = np.log(max(value, floor))
        ends = centre + factor * (np.array([min(low, centre), max(high, centre)]) - centre)
        ends = np.exp(np.clip(ends, -600, 600))  # JSON has no infinity
        return Interval(min(float(ends[0]), value), value, max(float(ends[1]), value))
    low, high = np.quantile(draws, [1 - tail, tail])
    return Interval(
        float(value + factor * (min(low, value) - value)),
        value,
        float(value + factor * (max(high, value) - value)),
    )
