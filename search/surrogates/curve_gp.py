"""A Gaussian process over whole learning curves.

The scaled loss of a configuration ``x`` at progress ``t`` in [0, 1] (logarithmic in the steps) is

    f(x, t) = trend(t) + end(x) + (1 - t) path(x, t) + own(x, t) + noise

``trend``
    what all curves have in common; Matérn 5/2 in t.
``end``
    where the configuration ends; a linear kernel (so that a trend goes on to the corners of the space)
    plus Matérn 5/2 with a length-scale for each feature.
``path``
    how it gets there: a product of Matérn 5/2 kernels in x and t, that fades out towards the end, as in
    freeze-thaw Bayesian optimization (Swersky, Snoek, Adams, 2014).
``own``
    what only this configuration and its closest neighbours have: a level, and a path that fades out. It
    lets a curve differ from what its surroundings predict; exponential in the distance, rough.

All hyperparameters are found by maximising the posterior density (marginal likelihood times log-normal
priors), with L-BFGS-B and gradients from torch. Shapes: ``n`` points, ``m`` queries, ``d`` features.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.linalg import solve_triangular
from scipy.optimize import minimize

from search.surrogates.calibration import Replays
from search.surrogates.history import Array, Indices, Points
from search.surrogates.kernels import cholesky, distance, fit_quality, matern, replays

Tensor = torch.Tensor

_JITTER = 1e-6
_ITERATIONS = 20
_FIT_POINTS = 100
"""Hyperparameters are fitted to at most as many points: a fit costs a cube of them, thirty times."""

_SCALARS: tuple[tuple[str, float, float], ...] = (
    # name, median, standard deviation of the logarithm
    ("end", 1.5, 0.2),
    ("linear", 1.0, 0.5),
    ("path", 1.0, 0.4),
    ("path_length", 1.0, 0.5),
    ("time_length", 0.4, 0.5),
    ("trend", 1.0, 0.6),
    ("trend_length", 0.5, 0.5),
    ("own", 0.15, 0.9),
    ("own_path", 0.2, 0.9),
    ("own_length", 0.15, 0.7),
    ("noise", 0.03, 0.9),
)
"""Amplitudes are standard deviations in units of the values'; ``path_length`` is a factor on the features'
length-scales; ``own_length`` is a distance in the unit cube."""
_LENGTH = (2.0, 0.9)
"""Prior of each feature's length-scale, likewise."""
_FAILED = 1e10
"""Stands for the negative log density where there is none."""
_BOUND = 4.0
"""How many standard deviations of its prior a hyperparameter may be away from its median."""


@dataclass(frozen=True, slots=True)
class Hyperparameters:
    """Logarithms of the length-scales, shape (d,), and of the scalars, shape (11,), in one vector."""

    vector: Array
    iterations: int
    log_posterior: float
    """Not finite if no hyperparameters of finite density were found: then these are the prior's medians."""

    def named(self) -> dict[str, float]:
        """The scalars by name."""
        values = np.exp(self.vector[-len(_SCALARS) :])
        return {name: float(value) for (name, _, _), value in zip(_SCALARS, values, strict=True)}

    @property
    def lengths(self) -> Array:
        """Length-scale of each feature, shape (d,)."""
        lengths: Array = np.exp(self.vector[: -len(_SCALARS)])
        return lengths


@dataclass(frozen=True, slots=True)
class _Parts:
    """What of a covariance does not depend on progress, each of shape (m, n)."""

    end: Tensor
    path: Tensor
    own: Tensor


def fit(points: Points, rng: np.random.Generator) -> Hyperparameters:
    """The hyperparameters of highest posterior density for ``points``, which are best standardised.

    Where there are many points, an even share of them is drawn. The search starts at the prior's medians,
    which are the answer, too, if it fails.
    """
    if len(points) > _FIT_POINTS:
        points = points.take(np.sort(rng.choice(len(points), _FIT_POINTS, replace=False)))
    width = points.features.shape[1]
    median, spread = _prior(width)
    features, progress = torch.as_tensor(points.features), torch.as_tensor(points.progress)
    owner, values = torch.as_tensor(points.owner), torch.as_tensor(points.values)
    centre, scale = torch.as_tensor(median), torch.as_tensor(spread)

    def negative(vector: Array) -> tuple[float, Array]:
        theta = torch.tensor(vector, dtype=torch.float64, requires_grad=True)
        parts = _parts(theta, features, features, owner, owner)
        noisy = _combined(theta, parts, progress, progress) + _noise(theta, len(points))
        factor, failed = torch.linalg.cholesky_ex(noisy)
        if int(failed):
            return _FAILED, np.zeros_like(vector)
        white = torch.linalg.solve_triangular(factor, values[:, None], upper=False)
        likelihood = -0.5 * white.square().sum() - factor.diagonal().log().sum()
        prior = -0.5 * ((theta - centre) / scale).square().sum()
        objective = -(likelihood + prior)
        objective.backward()
        assert theta.grad is not None
        return float(objective.detach()), theta.grad.numpy()

    bounds = list(zip(median - _BOUND * spread, median + _BOUND * spread, strict=True))
    found = minimize(
        negative,
        median,
        jac=True,
        method="L-BFGS-B",
        bounds=bounds,
        options={"maxiter": _ITERATIONS, "maxfun": 2 * _ITERATIONS},
    )
    if not (np.isfinite(found.x).all() and found.fun < _FAILED):
        return Hyperparameters(median, int(found.nfev), -math.inf)
    return Hyperparameters(np.asarray(found.x), int(found.nfev), -float(found.fun))


def fitted(points: Points, rng: np.random.Generator) -> CurveGP:
    """The surrogate ``gp``: the process with the hyperparameters of :func:`fit`."""
    return CurveGP(points, fit(points, rng))


class CurveGP:
    """The process, conditioned on points. Values are taken as they are: standardise them first."""

    def __init__(self, points: Points, hyperparameters: Hyperparameters) -> None:
        self.points = points
        self.hyperparameters = hyperparameters
        self._theta = torch.as_tensor(hyperparameters.vector)
        self._features = torch.as_tensor(points.features)
        self._owner = torch.as_tensor(points.owner)
        self._progress = torch.as_tensor(points.progress)
        parts = _parts(self._theta, self._features, self._features, self._owner, self._owner)
        noisy = _combined(self._theta, parts, self._progress, self._progress)
        self._factor = cholesky((noisy + _noise(self._theta, len(points))).numpy())
        self._white = solve_triangular(self._factor, points.values, lower=True, check_finite=False)

    @property
    def noise(self) -> float:
        """Variance of the noise of a measurement."""
        return self.hyperparameters.named()["noise"] ** 2

    @property
    def lengths(self) -> Array:
        """Length-scale of each feature, shape (d,)."""
        return self.hyperparameters.lengths

    def plus(self, points: Points) -> CurveGP:
        """The process conditioned on further points, with the same hyperparameters."""
        return CurveGP(self.points.plus(points), self.hyperparameters)

    def outlook(self, features: Array, owner: Indices) -> Outlook:
        """What the process says of ``m`` configurations; ``owner`` is -1 for those without a curve."""
        return Outlook(self, features, owner)

    def leave_one_out(self) -> tuple[Array, Array]:
        """Mean and standard deviation of each point's value given all others, each of shape (n,).

        Rasmussen and Williams, "Gaussian Processes for Machine Learning", 2006, equations 5.10-5.12.
        """
        root = solve_triangular(self._factor, np.eye(len(self.points)), lower=True, check_finite=False)
        precision = (root**2).sum(axis=0)
        weights = root.T @ self._white
        return self.points.values - weights / precision, np.sqrt(1 / precision)

    def replays(self) -> Replays:
        """What the process would have said of each curve's newest point, told less."""
        return replays(self.points, self._factor, self._white)

    def report(self) -> dict[str, Any]:
        """How well the process fits, as JSON: what is kept with each decision."""
        mean, sd = self.leave_one_out()
        found = self.hyperparameters
        fitted = math.isfinite(found.log_posterior)
        return {
            "fit": "found" if fitted else "failed: the prior's medians are used",
            "points": len(self.points),
            "leave_one_out": fit_quality(self.points.values, mean, sd),
            "hyperparameters": {name: round(value, 4) for name, value in found.named().items()},
            "log_posterior": found.log_posterior if fitted else None,
            "fit_evaluations": found.iterations,
        }


class Outlook:
    """Predictions for ``m`` configurations at their end, and at any other progress."""

    def __init__(self, model: CurveGP, features: Array, owner: Indices) -> None:
        self._model = model
        # Two configurations that were never trained share no curve, whatever their place.
        own = torch.as_tensor(np.where(owner < 0, -1, owner))
        self._parts = _parts(model._theta, torch.as_tensor(features), model._features, own, model._owner)
        self._linear = torch.as_tensor(((features - 0.5) ** 2).sum(axis=1))
        end = np.ones(len(features))
        self._end_root = self._projected(end)
        self.mean: Array = self._end_root.T @ model._white
        """Of the value at the end, noise left out; shape (m,)."""
        variance = self._prior(end, end) - (self._end_root**2).sum(axis=0)
        self.sd: Array = np.sqrt(np.maximum(variance, 1e-10))
        """Shape (m,)."""

    def at(self, progress: Array) -> tuple[Array, Array, Array]:
        """Mean, standard deviation, and covariance with the end, of the value at ``progress``; all (m,)."""
        root = self._projected(progress)
        variance = self._prior(progress, progress) - (root**2).sum(axis=0)
        shared = self._prior(progress, np.ones(len(progress))) - (root * self._end_root).sum(axis=0)
        return root.T @ self._model._white, np.sqrt(np.maximum(variance, 1e-10)), shared

    def _projected(self, progress: Array) -> Array:
        """The factor's inverse times the covariance with the points, shape (n, m)."""
        covariance = _combined(
            self._model._theta, self._parts, torch.as_tensor(progress), self._model._progress
        )
        root: Array = solve_triangular(
            self._model._factor, covariance.numpy().T, lower=True, check_finite=False
        )
        return root

    def _prior(self, first: Array, second: Array) -> Array:
        """Covariance a priori of each configuration's values at two progresses, shape (m,)."""
        scalars = _scalars(self._model._theta)
        one, other = torch.as_tensor(first), torch.as_tensor(second)
        apart, fading = (one - other).abs(), (1 - one) * (1 - other)
        along = matern(apart / scalars["time_length"]) * fading
        return (
            (
                scalars["end"] ** 2
                + scalars["linear"] ** 2 * self._linear
                + scalars["own"] ** 2
                + (scalars["path"] ** 2 + scalars["own_path"] ** 2) * along
                + scalars["trend"] ** 2 * matern(apart / scalars["trend_length"])
            )
            .numpy()
            .copy()
        )


def _prior(width: int) -> tuple[Array, Array]:
    """Medians (as logarithms) and standard deviations of the hyperparameters' priors."""
    median = [math.log(_LENGTH[0])] * width + [math.log(value) for _, value, _ in _SCALARS]
    return np.array(median), np.array([_LENGTH[1]] * width + [spread for _, _, spread in _SCALARS])


def _scalars(theta: Tensor) -> dict[str, Tensor]:
    values = theta[-len(_SCALARS) :].exp()
    return {name: value for (name, _, _), value in zip(_SCALARS, values, strict=True)}


def _parts(theta: Tensor, first: Tensor, second: Tensor, owner: Tensor, other: Tensor) -> _Parts:
    """``first`` (m, d) against ``second`` (n, d), with their owners."""
    scalars = _scalars(theta)
    inverse = (-theta[: first.shape[1]]).exp()
    apart = distance(first * inverse, second * inverse)
    linear = (first - 0.5) @ (second - 0.5).T
    near = distance(first, second) * (owner[:, None] != other[None, :])
    return _Parts(
        scalars["end"] ** 2 * matern(apart) + scalars["linear"] ** 2 * linear,
        scalars["path"] ** 2 * matern(apart / scalars["path_length"]),
        (-near / scalars["own_length"]).exp(),
    )


def _combined(theta: Tensor, parts: _Parts, first: Tensor, second: Tensor) -> Tensor:
    """The covariance of ``parts`` at progress ``first`` (m,) and ``second`` (n,), shape (m, n)."""
    scalars = _scalars(theta)
    apart = (first[:, None] - second[None, :]).abs()
    along = matern(apart / scalars["time_length"]) * (1 - first)[:, None] * (1 - second)[None, :]
    return (
        parts.end
        + parts.path * along
        + parts.own * (scalars["own"] ** 2 + scalars["own_path"] ** 2 * along)
        + scalars["trend"] ** 2 * matern(apart / scalars["trend_length"])
    )


def _noise(theta: Tensor, count: int) -> Tensor:
    return (_scalars(theta)["noise"] ** 2 + _JITTER) * torch.eye(count, dtype=torch.float64)
