"""What Gaussian processes share: a kernel, distances, a Cholesky factor that does not fail."""

from __future__ import annotations

import math

import numpy as np
import torch

from search.surrogates.history import Array

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


def fit_quality(values: Array, mean: Array, sd: Array) -> dict[str, float]:
    """How well predictions of what a model was not told fit it: mean log density, and the share within
    the 90 % intervals."""
    error = (values - mean) / sd
    return {
        "log_density": float(np.mean(-0.5 * error**2 - np.log(sd) - 0.5 * math.log(2 * math.pi))),
        "within_90": float(np.mean(np.abs(error) <= 1.645)),
    }
