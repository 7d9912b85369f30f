"""A Gaussian process over learning curves with any kernel for what configurations share.

The scaled loss of a configuration ``x`` at progress ``t`` in [0, 1] is

    f(x, t) = trend(t) + shared(x, t) + own(x, t) + noise

``shared`` is what a plug-in brings (:class:`Kernel`); ``trend``, ``own`` and the priors of their
hyperparameters are those of :mod:`search.surrogates.curve_gp`, and so is the way to find them: the
posterior density is maximised with L-BFGS-B and gradients from torch. Shapes: ``n`` points, ``m`` queries,
``d`` features.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from scipy.linalg import solve_triangular
from scipy.optimize import minimize

from search.surrogates.calibration import Replays
from search.surrogates.history import Array, Indices, Points
from search.surrogates.kernels import Tensor, cholesky, distance, fit_quality, matern, replays

_JITTER = 1e-6
_FIT_POINTS = 100
"""Hyperparameters are fitted to at most as many points."""
_SCALARS: tuple[tuple[str, float, float], ...] = (
    # name, median, standard deviation of the logarithm
    ("time_length", 0.4, 0.5),
    ("trend", 1.0, 0.6),
    ("trend_length", 0.5, 0.5),
    ("own", 0.15, 0.9),
    ("own_path", 0.2, 0.9),
    ("own_length", 0.15, 0.7),
    ("noise", 0.03, 0.9),
)
_FAILED = 1e10
"""Stands for the negative log density where there is none."""
_BOUND = 4.0
"""How many standard deviations of its prior a hyperparameter may be away from its centre."""


@dataclass(frozen=True, slots=True)
class Prior:
    """Independent normal priors of a kernel's hyperparameters, and where the search for them begins; each
    of shape (p,). What must be positive is given as its logarithm."""

    centre: Array
    spread: Array
    start: Array


class Kernel(Protocol):
    """A covariance of configurations at a progress, with hyperparameters in one vector (p,)."""

    def prior(self, width: int, rng: np.random.Generator) -> Prior:
        """For ``width`` features."""
        ...

    def embed(self, theta: Tensor, features: Tensor, progress: Tensor) -> Tensor:
        """What the covariance is computed from, shape (n, any), for features (n, d) and progress (n,)."""
        ...

    def covariance(self, theta: Tensor, first: Tensor, second: Tensor) -> Tensor:
        """Of embedded rows ``first`` (m, ·) with each of ``second`` (n, ·), shape (m, n)."""
        ...

    def paired(self, theta: Tensor, first: Tensor, second: Tensor) -> Tensor:
        """Of embedded rows ``first`` (m, ·) each with its own of ``second`` (m, ·), shape (m,)."""
        ...

    def lengths(self, theta: Array, width: int) -> Array:
        """The length-scale of each feature, shape (d,)."""
        ...


@dataclass(frozen=True, slots=True)
class _Hyperparameters:
    """Those of the kernel, then the logarithms of the scalars."""

    vector: Array
    evaluations: int
    log_posterior: float
    """Not finite if none of finite density were found: then these are where the search began."""

    def named(self) -> dict[str, float]:
        values = np.exp(self.vector[-len(_SCALARS) :])
        return {name: float(value) for (name, _, _), value in zip(_SCALARS, values, strict=True)}


def fit(points: Points, rng: np.random.Generator, kernel: Kernel, iterations: int) -> KernelGP:
    """The process of highest posterior density. Where there are many points, an even share is fitted to."""
    width = points.features.shape[1]
    own = kernel.prior(width, rng)
    medians = np.log([median for _, median, _ in _SCALARS])
    centre = np.concatenate([own.centre, medians])
    spread = np.concatenate([own.spread, [sd for _, _, sd in _SCALARS]])
    start = np.concatenate([own.start, medians])
    told = points
    if len(points) > _FIT_POINTS:
        told = points.take(np.sort(rng.choice(len(points), _FIT_POINTS, replace=False)))
    features, progress = torch.as_tensor(told.features), torch.as_tensor(told.progress)
    owner, values = torch.as_tensor(told.owner), torch.as_tensor(told.values)
    middle, scale = torch.as_tensor(centre), torch.as_tensor(spread)

    def negative(vector: Array) -> tuple[float, Array]:
        theta = torch.tensor(vector, dtype=torch.float64, requires_grad=True)
        side = _side(kernel, theta, features, progress, owner)
        noise = _scalars(theta)["noise"] ** 2 + _JITTER
        noisy = _covariance(kernel, theta, side, side) + noise * torch.eye(len(told), dtype=torch.float64)
        factor, failed = torch.linalg.cholesky_ex(noisy)
        if int(failed):
            return _FAILED, np.zeros_like(vector)
        white = torch.linalg.solve_triangular(factor, values[:, None], upper=False)
        objective = (
            0.5 * white.square().sum()
            + factor.diagonal().log().sum()
            + 0.5 * ((theta - middle) / scale).square().sum()
        )
        objective.backward()
        assert theta.grad is not None
        return float(objective.detach()), theta.grad.numpy()

    bounds = list(zip(centre - _BOUND * spread, centre + _BOUND * spread, strict=True))
    found = minimize(
        negative,
        start,
        jac=True,
        method="L-BFGS-B",
        bounds=bounds,
        options={"maxiter": iterations, "maxfun": 2 * iterations},
    )
    return KernelGP(
        points, kernel, _Hyperparameters(np.asarray(found.x), int(found.nfev), -float(found.fun))
    )


class KernelGP:
    """The process, conditioned on points; a :class:`~search.surrogates.base.Surrogate`."""

    def __init__(self, points: Points, kernel: Kernel, hyperparameters: _Hyperparameters) -> None:
        self.points = points
        self._kernel = kernel
        self._hyperparameters = hyperparameters
        self._theta = torch.as_tensor(hyperparameters.vector)
        self._side = self.side(points.features, points.progress, points.owner)
        noisy = _covariance(kernel, self._theta, self._side, self._side).numpy()
        noisy[np.diag_indices(len(points))] += self.noise + _JITTER
        self._factor = cholesky(noisy)
        self._white = solve_triangular(self._factor, points.values, lower=True, check_finite=False)

    @property
    def noise(self) -> float:
        return self._hyperparameters.named()["noise"] ** 2

    @property
    def lengths(self) -> Array:
        return self._kernel.lengths(
            self._hyperparameters.vector[: -len(_SCALARS)], self.points.features.shape[1]
        )

    def plus(self, points: Points) -> KernelGP:
        return KernelGP(self.points.plus(points), self._kernel, self._hyperparameters)

    def replays(self) -> Replays:
        return replays(self.points, self._factor, self._white)

    def outlook(self, features: Array, owner: Indices) -> KernelOutlook:
        return KernelOutlook(self, features, owner)

    def report(self) -> dict[str, Any]:
        # Leave-one-out: Rasmussen and Williams, "Gaussian Processes for Machine Learning", 5.10-5.12.
        root = solve_triangular(self._factor, np.eye(len(self.points)), lower=True, check_finite=False)
        precision = (root**2).sum(axis=0)
        mean = self.points.values - root.T @ self._white / precision
        found = self._hyperparameters
        fitted = math.isfinite(found.log_posterior)
        return {
            "fit": "found" if fitted else "failed: the prior's medians are used",
            "points": len(self.points),
            "leave_one_out": fit_quality(self.points.values, mean, np.sqrt(1 / precision)),
            "hyperparameters": {name: round(value, 4) for name, value in found.named().items()},
            "log_posterior": found.log_posterior if fitted else None,
            "fit_evaluations": found.evaluations,
        }

    def side(self, features: Array, progress: Array, owner: Indices) -> _Side:
        """Configurations at a progress, as the kernel sees them."""
        tensors = (torch.as_tensor(array) for array in (features, progress, owner))
        return _side(self._kernel, self._theta, *tensors)

    def project(self, side: _Side) -> tuple[Array, Array]:
        """The mean there, shape (m,), and the factor's inverse times the covariance, shape (n, m)."""
        covariance = _covariance(self._kernel, self._theta, side, self._side).numpy()
        root: Array = solve_triangular(self._factor, covariance.T, lower=True, check_finite=False)
        return root.T @ self._white, root

    def prior(self, first: _Side, second: _Side) -> Array:
        """Covariance a priori of each configuration's values at two progresses, shape (m,)."""
        scalars = _scalars(self._theta)
        apart = (first.progress - second.progress).abs()
        along = matern(apart / scalars["time_length"]) * (1 - first.progress) * (1 - second.progress)
        covariance: Array = (
            self._kernel.paired(_own(self._theta), first.embedded, second.embedded)
            + scalars["trend"] ** 2 * matern(apart / scalars["trend_length"])
            + scalars["own"] ** 2
            + scalars["own_path"] ** 2 * along
        ).numpy()
        return covariance


class KernelOutlook:
    """Predictions; an :class:`~search.surrogates.base.Outlook`."""

    def __init__(self, model: KernelGP, features: Array, owner: Indices) -> None:
        self._model, self._features, self._owner = model, features, owner
        self._end = model.side(features, np.ones(len(features)), owner)
        self.mean, self._end_root = model.project(self._end)
        variance = model.prior(self._end, self._end) - (self._end_root**2).sum(axis=0)
        self.sd: Array = np.sqrt(np.maximum(variance, 1e-10))

    def at(self, progress: Array) -> tuple[Array, Array, Array]:
        side = self._model.side(self._features, progress, self._owner)
        mean, root = self._model.project(side)
        variance = self._model.prior(side, side) - (root**2).sum(axis=0)
        shared = self._model.prior(side, self._end) - (root * self._end_root).sum(axis=0)
        return mean, np.sqrt(np.maximum(variance, 1e-10)), shared


@dataclass(frozen=True, slots=True)
class _Side:
    """One side of a covariance matrix."""

    features: Tensor
    progress: Tensor
    owner: Tensor
    embedded: Tensor


def _side(kernel: Kernel, theta: Tensor, features: Tensor, progress: Tensor, owner: Tensor) -> _Side:
    return _Side(features, progress, owner, kernel.embed(_own(theta), features, progress))


def _own(theta: Tensor) -> Tensor:
    """The kernel's hyperparameters."""
    return theta[: -len(_SCALARS)]


def _scalars(theta: Tensor) -> dict[str, Tensor]:
    values = theta[-len(_SCALARS) :].exp()
    return {name: value for (name, _, _), value in zip(_SCALARS, values, strict=True)}


def _covariance(kernel: Kernel, theta: Tensor, first: _Side, second: _Side) -> Tensor:
    """Noise left out, shape (m, n)."""
    scalars = _scalars(theta)
    apart = (first.progress[:, None] - second.progress[None, :]).abs()
    fading = (1 - first.progress)[:, None] * (1 - second.progress)[None, :]
    along = matern(apart / scalars["time_length"]) * fading
    near = distance(first.features, second.features) * (first.owner[:, None] != second.owner[None, :])
    return (
        kernel.covariance(_own(theta), first.embedded, second.embedded)
        + scalars["trend"] ** 2 * matern(apart / scalars["trend_length"])
        + (-near / scalars["own_length"]).exp() * (scalars["own"] ** 2 + scalars["own_path"] ** 2 * along)
    )
