"""What fully trained trials come to: the study's metric, further objectives, and metrics that have limits.

Each of them is modelled by a Gaussian process over encoded configurations (:mod:`search.features`), which
Ax's ``Surrogate`` sets up and fits (BoTorch's ``SingleTaskGP``; length-scales with the prior of Hvarfner,
Hellsten, Nardi, "Vanilla Bayesian Optimization Performs Great in High Dimensions", 2024). The models see
values on a scale of about one (:class:`Scale`), of an objective higher is better.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from ax.core.search_space import SearchSpaceDigest
from ax.generators.torch.botorch_modular.surrogate import Surrogate
from botorch.cross_validation import efficient_loo_cv
from botorch.models.gp_regression import SingleTaskGP
from botorch.models.model_list_gp_regression import ModelListGP
from botorch.posteriors.gpytorch import GPyTorchPosterior
from botorch.utils.datasets import SupervisedDataset
from scipy.special import ndtr

from search.surrogates.history import Array, LossScale
from search.table import Mask
from search.view import Limit, StudyView, TrialView

_FARTHEST = 10.0
"""Values farther off than this many times the usual distance are drawn in: they say no more than that."""
_FITTED = 200
"""Trials that hyperparameters are fitted to: a fit evaluates the likelihood some hundred times, each at the
cost of a cube of the trials."""
_ROUNDING = 1e-9
"""A value at the bound of its limit must not break it because it was scaled."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """A number that a trial comes to, and what is wanted of it."""

    metric: str | None
    """None: the study's own."""
    maximize: bool
    limit: Limit | None = None
    """None: it is an objective."""

    def of(self, view: StudyView, trial: TrialView) -> float | None:
        """Its value, in its own unit; NaN if the training spoilt it, None if it was not measured.

        Where several metrics count, they are taken at the trial's last measurement; else the best of the
        curve counts.
        """
        if self.metric is not None:
            return trial.outcomes.get(self.metric)
        if not trial.values:
            return math.nan
        if view.objectives or view.limits:
            return trial.values[-1] if math.isfinite(trial.values[-1]) else math.nan
        best = min(view.loss(value) for value in trial.values)
        return math.nan if math.isinf(best) else (-best if view.maximize else best)


FAILURE = Outcome("failure", False, Limit("failure", 0.5, True))
"""Whether the configuration makes the training fail: 1 or 0, modelled as any metric that must stay low."""


def outcomes_of(view: StudyView) -> tuple[Outcome, ...]:
    """The study's metric, its further objectives, then its limits."""
    return (
        Outcome(None, view.maximize),
        *(Outcome(objective.metric, objective.maximize) for objective in view.objectives),
        *(Outcome(limit.metric, not limit.upper, limit) for limit in view.limits),
    )


@dataclass(frozen=True, slots=True)
class Scale:
    """Between an outcome's own unit and the model's: ``value = origin + unit * scaled``.

    With ``losses``, that is the loss on *its* scale, which is logarithmic beyond the median.
    """

    origin: float
    unit: float
    """Negative where a lower value is wanted of an objective, or a higher one of a metric with a limit."""
    losses: LossScale | None = None
    maximize: bool = False
    """Whether the outcome is to be maximised; of interest with ``losses`` alone."""

    def value(self, scaled: float) -> float:
        """In the outcome's own unit."""
        inner = self.origin + self.unit * scaled
        if self.losses is None:
            return inner
        loss = self.losses.loss(inner)
        return -loss if self.maximize else loss

    @property
    def width(self) -> float:
        """What one on the model's scale is in the outcome's unit; with ``losses``, where they are good."""
        return abs(self.unit) * (1.0 if self.losses is None else self.losses.unit)


def scaled(outcome: Outcome, values: Array, alone: bool) -> tuple[Scale, Array]:
    """The scale and the values on it: of an objective higher is better, of a limit lower is safer.

    ``alone``: it is the only objective. How bad a bad trial is then makes little difference, and the model
    is to tell the good ones apart. Of one among several objectives a bad value may be worth its price:
    their scales are straight.
    """
    losses = None
    if outcome.limit is None and alone:
        loss = -values if outcome.maximize else values
        losses = LossScale.of(loss.tolist(), loss.tolist())
        own = -losses.scale(loss)
        origin, unit = 0.0, -1.0
    elif outcome.limit is None:
        sign = 1.0 if outcome.maximize else -1.0
        centre, distance, drawn_in = standardised((-sign * values).tolist())
        own = -np.asarray(drawn_in)
        origin, unit = -sign * centre, sign * distance
    else:
        sign = 1.0 if outcome.limit.upper else -1.0
        beyond = sign * (np.clip(values, -1e300, 1e300) - outcome.limit.bound)
        distance = float(np.median(np.abs(beyond))) or float(np.abs(beyond).max()) or 1.0
        own = np.clip(beyond / distance, -_FARTHEST, _FARTHEST)
        origin, unit = outcome.limit.bound, sign * distance
    mean, sd = float(own.mean()), float(own.std())
    sd = sd if sd > 1e-6 else 1.0
    return Scale(origin + unit * mean, unit * sd, losses, outcome.maximize), (own - mean) / sd


def standardised(losses: Sequence[float]) -> tuple[float, float, list[float]]:
    """Centre, scale and the losses on that scale, far outliers on the bad side drawn in.

    The scale is the distance from the best loss to the median. A loss ten times as far above the median
    says no more than that it is bad, and would leave the model blind to differences among the good ones.
    """
    values = np.clip(np.asarray(losses, dtype=np.float64), -1e300, 1e300)
    centre = float(np.median(values))
    scale = centre - float(values.min()) or float(values.max() - values.min()) or 1.0
    drawn_in = np.minimum(values, centre + _FARTHEST * scale)
    return centre, scale, [float(v) for v in (drawn_in - centre) / scale]


@dataclass(frozen=True)
class Models:
    """The fitted processes of all outcomes."""

    parts: tuple[SingleTaskGP, ...]
    outcomes: tuple[Outcome, ...]
    scales: tuple[Scale, ...]
    told: tuple[Array, ...]
    """Of each outcome, for each trial the scaled value; NaN where it is not known."""
    seconds: float
    """That the fit took."""

    @cached_property
    def model(self) -> SingleTaskGP | ModelListGP:
        """With an output for each outcome."""
        return self.parts[0] if len(self.parts) == 1 else ModelListGP(*self.parts)

    @property
    def objectives(self) -> int:
        """How many of the outcomes, the first ones, are objectives."""
        return sum(outcome.limit is None for outcome in self.outcomes)

    def bound(self, place: int) -> float:
        """The scaled value up to which the limit of outcome ``place`` is kept."""
        limit = self.outcomes[place].limit
        assert limit is not None, "an objective has no bound"
        return (limit.bound - self.scales[place].origin) / self.scales[place].unit

    def predict(self, features: Array) -> tuple[Array, Array]:
        """Means and standard deviations without noise, scaled, both of shape (n, outcomes)."""
        with torch.no_grad():
            own = [part.posterior(torch.from_numpy(features)) for part in self.parts]
            mean = torch.cat([posterior.mean for posterior in own], dim=1)
            variance = torch.cat([posterior.variance for posterior in own], dim=1)
        return mean.numpy(), variance.clamp_min(1e-12).sqrt().numpy()

    def chances(self, mean: Array, sd: Array) -> tuple[Array, Array]:
        """The chances that all limits are kept and that the training does not fail, from :meth:`predict`.

        Both of shape (n,).
        """
        keeps, trains = np.ones(len(mean)), np.ones(len(mean))
        for place in range(self.objectives, len(self.outcomes)):
            chance = ndtr((self.bound(place) - mean[:, place]) / sd[:, place])
            if self.outcomes[place] is FAILURE:
                trains = chance
            else:
                keeps = keeps * chance
        return keeps, trains

    def known(self) -> Mask:
        """Which trials are known in all outcomes, shape (trials,)."""
        return np.asarray(np.isfinite(np.stack(self.told)).all(axis=0))

    def kept(self) -> Mask:
        """Which trials are known in all outcomes and measured to keep all limits, shape (trials,)."""
        kept = self.known()
        for place in range(self.objectives, len(self.outcomes)):
            kept &= self.told[place] <= self.bound(place) + _ROUNDING
        return kept

    def leave_one_out(self) -> list[dict[str, Any]]:
        """How well each outcome of a trial is predicted from the others: log density (scaled), coverage."""
        found = []
        for outcome, part, told in zip(self.outcomes, self.parts, self.told, strict=True):
            if np.isfinite(told).sum() < 2:
                continue
            with torch.no_grad():
                left_out = efficient_loo_cv(part)
            posterior = left_out.posterior
            assert isinstance(posterior, GPyTorchPosterior)
            sd = posterior.variance.clamp_min(1e-12).sqrt()
            error = ((left_out.observed_Y - posterior.mean) / sd).numpy()
            density = -0.5 * error**2 - np.log(sd.numpy()) - 0.5 * math.log(2 * math.pi)
            found.append(
                {
                    **({"metric": outcome.metric} if outcome.metric is not None else {}),
                    "log_density": float(density.mean()),
                    "within_90": float(np.mean(np.abs(error) <= 1.645)),
                }
            )
        return found


def fit(
    outcomes: Sequence[Outcome], features: Array, values: Sequence[Array], noise_sd: float | None
) -> Models:
    """Fit each outcome to the trials whose value is known; there must be one for each.

    ``features`` has shape (trials, width), ``values`` holds for each outcome the trials' values, NaN where
    not known. ``noise_sd`` is that of the first outcome, in its unit (None: inferred, as those of the
    others). Raises :class:`~botorch.exceptions.errors.ModelFittingError`, or an error of linear algebra, if
    no fit succeeds.
    """
    begun = time.perf_counter()
    scales, told, parts = [], [], []
    alone = sum(outcome.limit is None for outcome in outcomes) == 1
    for place, (outcome, own) in enumerate(zip(outcomes, values, strict=True)):
        known = np.isfinite(own)
        scale, targets = scaled(outcome, own[known], alone)
        sd = noise_sd / scale.width if place == 0 and noise_sd is not None else None
        parts.append(_fit_one(torch.from_numpy(features[known]), torch.from_numpy(targets[:, None]), sd))
        scales.append(scale)
        everywhere = np.full(len(own), np.nan)
        everywhere[known] = targets
        told.append(everywhere)
    return Models(tuple(parts), tuple(outcomes), tuple(scales), tuple(told), time.perf_counter() - begun)


def _fit_one(inputs: torch.Tensor, targets: torch.Tensor, noise_sd: float | None) -> SingleTaskGP:
    """A process with hyperparameters fitted to at most ``_FITTED`` points, conditioned on all.

    ``inputs`` has shape (n, width), ``targets`` (n, 1).
    """
    names = [f"f{i}" for i in range(inputs.shape[1])]
    digest = SearchSpaceDigest(feature_names=names, bounds=[(0.0, 1.0)] * len(names))

    def dataset(rows: torch.Tensor) -> list[SupervisedDataset]:
        noise = None if noise_sd is None else torch.full_like(targets[rows], noise_sd) ** 2
        own = SupervisedDataset(
            inputs[rows], targets[rows], Yvar=noise, feature_names=names, outcome_names=["outcome"]
        )
        return [own]

    surrogate = Surrogate()
    count = len(inputs)
    surrogate.fit(dataset(torch.linspace(0, count - 1, min(count, _FITTED)).round().long()), digest)
    if count > _FITTED:
        fitted = surrogate.model.state_dict()
        surrogate.fit(dataset(torch.arange(count)), digest, state_dict=fitted, refit=False)
    assert isinstance(surrogate.model, SingleTaskGP)
    return surrogate.model
