"""What Gaussian processes share: a kernel, distances, a Cholesky factor that does not fail, replays."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import torch
from scipy.linalg import solve_triangular

from search.surrogates.calibration import Replays
from search.surrogates.history import Array, Points

Tensor = torch.Tensor

_SQRT5 = math.sqrt(5.0)


def matern(apart: Tensor) -> Tensor:
    """Matérn 5/2 of distances in length-scales."""
    scaled = _SQRT5 * apart
    return (1 + scaled + scaled.square() / 3) * (-scaled).exp()


def distance(first: Tensor, second: Tensor) -> Tensor:
    """Euclidean distances, shape (m, n); kept a little above 0, where the root has no gradient."""
    squares = first.square().sum(1)[:, None] + second.square().sum(1)[None, :] - 2 * first @ second.T
    return squares.clamp(min=1e-12).sqrt()


def cholesky(matrix: Array) -> Array:
    """The lower factor; ``matrix`` is nudged as little as it takes to be positive definite."""
    jitter = 0.0
    while True:
        try:
            factor: Array = np.linalg.cholesky(matrix + jitter * np.eye(len(matrix))).astype(np.float64)
            return factor
        except np.linalg.LinAlgError:
            jitter = max(1e-8, 10 * jitter)
            if jitter > 1.0:
                raise


def replays(points: Points, factor: Array, white: Array) -> Replays:
    """What a process would have said of each curve's newest point, told all other curves and, of its own,
    each earlier part in turn, or none. The points of a curve must lie together, in order.

    Leave-one-out for blocks: given the other points, those of a block B have the covariance inv(P_BB) and
    the mean y_B - inv(P_BB) (P y)_B, with P the inverse of the covariance of all.

    Args:
        points: ``n`` of them, which the process is conditioned on.
        factor: lower Cholesky factor of their covariance, noise included, shape (n, n).
        white: its inverse times the values, shape (n,).
    """
    root = solve_triangular(factor, np.eye(len(points)), lower=True, check_finite=False)
    precision, weights = root.T @ root, root.T @ white
    starts = np.flatnonzero(np.append(True, points.owner[1:] != points.owner[:-1])).tolist()
    begun, newest, error, variance = [], [], [], []
    for start, end in pairwise([*starts, len(points)]):
        for first in range(start, end):
            inverse = np.linalg.inv(precision[first:end, first:end])
            begun.append(first > start)
            newest.append(end - 1)
            error.append(inverse[-1] @ weights[first:end])
            variance.append(inverse[-1, -1])
    values = points.values[newest]
    return Replays(
        np.array(begun),
        points.progress[newest],
        values - np.array(error),
        np.sqrt(variance),
        values,
        points.rivals[newest],
    )


def fit_quality(values: Array, mean: Array, sd: Array) -> dict[str, float]:
    """How well predictions of what a model was not told fit it: mean log density, and the share within
    the 90 % intervals."""
    error = (values - mean) / sd
    return {
        "log_density": float(np.mean(-0.5 * error**2 - np.log(sd) - 0.5 * math.log(2 * math.pi))),
        "within_90": float(np.mean(np.abs(error) <= 1.645)),
    }
