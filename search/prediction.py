"""Where a trial will end, by ordinary regression on the trials that were trained to the end.

After Baker, Gupta, Raskar and Naik, "Accelerating Neural Architecture Search using Performance Prediction"
(2017). At each of some steps at about equal ratios (the *checks*), a ridge regression says how much better
than now a trial will be at the full fidelity: from its hyperparameters, its best value and the newest one
there, and its best values at earlier checks. The spread of its errors is that of exact leave-one-out, and
larger for a curve unlike the finished ones: those are mostly the survivors of earlier stops, and say little
about one that starts as none of them did. From both follows the chance of beating the best value.

How small that chance must be for a stop is calibrated on the study itself (:func:`_calibrate`): each of
the better half of the finished curves is the best of those not better than it; replayed without it, how
sure was the regression, at its most mistaken check, that it would not be?

``n`` is a number of trials, ``k`` of checks, ``w`` the width of the features.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import stdtr, stdtrit

from search.stopping import Forecast, Predicted
from search.view import Fidelity

Array = npt.NDArray[np.float64]
Point = tuple[float | None, float | None]
"""Of a curve: the best value so far and the value there; None where it was not measured or not finite."""

_RATIO = math.sqrt(2.0)
"""Of one check to the next."""
_LAGS = (1, 2, 4)
"""Earlier checks whose values are features: at about 0.7, 0.5 and 0.25 of the step."""
_PENALTIES = (0.001, 0.01, 0.1, 1.0, 10.0)
"""Ridge penalties to choose from, per row, on standardised columns."""
_SHARES = (0.0, 0.3, 1.0)
"""Scales of the hyperparameters' columns to choose from: 0 leaves them out."""
_GRACE = 0.11
"""No trial is stopped before this share of the full fidelity, unless the rule says otherwise: the risk of
stopping earlier hides in curves that a study has not seen yet, so no study can calibrate it."""
_LEAST_CURVES = 5
"""No regression is fitted to fewer."""
_FENCE = 3.0
"""Losses are drawn in to so many interquartile ranges above the upper quartile (Tukey's outer fence): how
bad something hopeless is makes no difference."""
_HUGE = 1e100
"""And to this, so that sums of their squares stay finite."""
_LEAST_SPREAD = 1e-3
"""Of the regression's errors, in standard deviations of the finished trials' ends."""
_SHARE = 0.0664
"""A trial is not stopped early on unless its chance is under this share of the study's risk: many trials
are stopped, and the chances of all of them add up. At a risk of 1 % that takes five standard deviations."""
_TAIL = 0.2
"""The share of replays, the most mistaken ones, to which the tail is fitted."""
_EXCESS = (0.5, 2.0)
"""What a replay of the tail exceeds its beginning by, in standard deviations, before any is seen, and how
many replays that is worth."""
_INCUMBENTS = 5
"""In how many incumbents' place a replayed trial is put."""
_GROWTH = 1.1
_FREEDOM = 5.0
"""Errors have heavier tails than the normal distribution: Student's, with so many degrees of freedom."""
_WIDTH = math.sqrt(_FREEDOM / (_FREEDOM - 2))
"""The standard deviation of that distribution."""
_SIDE = 1.561
"""Standard deviations on either side of a 90 % interval."""


def checks(fidelity: Fidelity, rule: Predicted) -> tuple[int, ...]:
    """The steps at which curves are looked at, rising: about equal ratios apart, multiples of
    ``report_every``, the end of the grace among them, the full fidelity last."""
    every, last = fidelity.report_every, fidelity.max
    first = _first(fidelity, rule)
    found = {last}
    step = float(first)
    while step < last:
        found.add(round(step / every) * every)
        step *= _RATIO
    step = first / _RATIO
    while step >= every:
        found.add(round(step / every) * every)
        step /= _RATIO
    return tuple(sorted(each for each in found if 0 < each <= last))


def judged(fidelity: Fidelity, rule: Predicted) -> tuple[int, ...]:
    """The checks at which a trial may be stopped."""
    first = _first(fidelity, rule)
    return tuple(step for step in checks(fidelity, rule)[:-1] if step >= first)


def _first(fidelity: Fidelity, rule: Predicted) -> int:
    """The end of the grace: a step at which trials are measured."""
    grace = _GRACE * fidelity.max if rule.grace is None else rule.grace
    return max(1, math.ceil(max(grace, fidelity.min) / fidelity.report_every)) * fidelity.report_every


def due(rule: Predicted, finished: int, learned_from: int) -> bool:
    """Whether a predictor is to be fitted (again) when so many trials have been trained to the end: when
    they are a tenth more than it was fitted to."""
    return finished >= max(rule.min_trials, learned_from + 1, math.ceil(_GROWTH * learned_from))


@dataclass(frozen=True, slots=True)
class Curves:
    """What is known of ``n`` trials at the checks, in the metric's own direction."""

    features: Array
    """Shape (n, w): hyperparameters as :class:`~search.features.Features` has them."""
    best: Array
    """Shape (n, k): the best value so far; NaN where the trial was not measured."""
    newest: Array
    """Shape (n, k): the value there; NaN where it was not measured or is not finite."""


@dataclass(frozen=True, slots=True)
class Model:
    """The regression of one check."""

    intercept: float
    weights: tuple[float, ...]
    """Of the columns that :func:`_columns` makes."""
    spread: float
    """Standard deviation of the error of the predicted end, for a curve like the finished ones."""
    centre: tuple[float, ...]
    """Mean of each curve column."""
    unlike: tuple[tuple[float, ...], ...]
    """Inverse of the curve columns' covariance times the number of curves; see :func:`_leverage`."""
    threshold: float
    """A trial is stopped when its chance of beating the best known value is under this."""
    bar: float | None
    """Trials whose loss at the check is not above this are protected; None: no trial is."""


@dataclass(frozen=True, slots=True)
class Predictor:
    """A fitted model of where trials end; small enough to be kept as JSON.

    Inside, values are losses (lower is better).
    """

    maximize: bool
    checks: tuple[int, ...]
    fence: float
    """Losses above it are drawn in to it."""
    models: Mapping[int, Model]
    """By step, for the checks at which trials may be stopped."""
    curves: int
    """Finished curves that it was fitted to."""

    @classmethod
    def fit(cls, curves: Curves, fidelity: Fidelity, maximize: bool, rule: Predicted) -> Predictor | None:
        """Fit to those of the curves that were measured at the full fidelity.

        None if these are fewer than the rule's ``min_trials``.
        """
        steps = checks(fidelity, rule)
        finished = np.isfinite(curves.best[:, -1])
        least = max(rule.min_trials, _LEAST_CURVES)
        if int(finished.sum()) < least:
            return None
        sign = -1.0 if maximize else 1.0
        best = np.clip(sign * curves.best[finished], -_HUGE, _HUGE)
        newest = np.clip(sign * curves.newest[finished], -_HUGE, _HUGE)
        lower, upper = np.quantile(best[np.isfinite(best)], (0.25, 0.75))
        fence = float(upper + _FENCE * (upper - lower))
        best = np.minimum(best, fence)
        newest = np.where(np.isfinite(newest), np.minimum(newest, fence), best)
        ends = best[:, -1]
        least_spread = max(_LEAST_SPREAD * float(ends.std()), 1e-12 * float(np.abs(ends).max()), 1e-300)
        features = curves.features[finished]
        fits: dict[int, _Fit] = {}
        bars: dict[int, float | None] = {}
        clouds: dict[int, tuple[Array, Array]] = {}
        noise: dict[int, float] = {}
        expected, spreads = np.full(best.shape, np.nan), np.full(best.shape, np.nan)
        for step in judged(fidelity, rule):
            at = steps.index(step)
            columns = _columns(features, best, newest, at)
            whole = np.isfinite(columns).all(axis=1)
            if int(whole.sum()) < least:
                continue
            fit = fits[step] = _ridge(columns[whole], (ends - best[:, at])[whole], features.shape[1])
            own = columns[whole, : columns.shape[1] - features.shape[1]]
            cloud = clouds[step] = _cloud(own)
            leverage = _leverage(own, *cloud)
            wider = 1.0 + leverage / np.maximum(1.0 - leverage, 1e-9)  # as the others see the row
            squares = fit.errors**2 / wider
            noise[step] = math.sqrt(float(squares.mean()))
            others = np.maximum(squares.sum() - squares, 0.0) / (len(squares) - 1)
            expected[whole, at] = ends[whole] + fit.errors
            spreads[whole, at] = np.maximum(np.sqrt(others * wider), least_spread)
            bars[step] = float(np.sort(best[whole, at])[: rule.protect][-1]) if rule.protect else None
        progress = np.array(steps) / fidelity.max
        sure = _calibrate(best, expected, spreads / _needed(progress), rule)
        models = {
            step: Model(
                fit.intercept,
                tuple(fit.weights.tolist()),
                max(noise[step], least_spread),
                tuple(clouds[step][0].tolist()),
                tuple(map(tuple, clouds[step][1].tolist())),
                _chance(sure * _needed(step / fidelity.max)),
                bars[step],
            )
            for step, fit in fits.items()
        }
        return cls(maximize, steps, fence, models, int(finished.sum()))

    def forecast(
        self, features: Array, curve: Mapping[int, Point], step: int, incumbent: float
    ) -> Forecast | None:
        """What becomes of a trial that stands at ``step``; None if nothing can be said.

        Args:
            features: of its configuration, shape (w,).
            curve: by step, its best value so far and the value there, at the checks up to ``step``; None
                where it was not measured or not finite.
            incumbent: the best value known of any trial.
        """
        model = self.models.get(step)
        if model is None or not math.isfinite(incumbent):
            return None
        at = self.checks.index(step)
        points = [curve.get(each, (None, None)) for each in self.checks[: at + 1]]
        best = np.array([[self._loss(best_then) for best_then, _ in points]])
        newest = best.copy()
        there = points[-1][1]
        if there is not None and math.isfinite(there):
            newest[0, at] = self._loss(there)
        columns = _columns(features[None, :], best, newest, at)[0]
        if not np.isfinite(columns).all():
            return None
        now, bar = float(best[0, at]), self._loss(incumbent)
        end = min(now, now + model.intercept + float(columns @ np.array(model.weights)))
        own = columns[: len(model.centre)]
        leverage = float(_leverage(own[None, :], np.array(model.centre), np.array(model.unlike))[0])
        spread = model.spread * math.sqrt(1.0 + leverage)
        sign = -1.0 if self.maximize else 1.0
        return Forecast(
            value=sign * end,
            good=sign * (end - _SIDE * spread),
            bad=sign * min(now, end + _SIDE * spread),
            chance=_chance((end - bar) / spread),
            threshold=model.threshold,
            incumbent=incumbent,
            protected=model.bar is not None and now <= model.bar,
        )

    def to_json(self) -> dict[str, Any]:
        """The predictor as JSON; :meth:`from_json` reads it again."""
        document = asdict(self)
        document["models"] = {str(step): model for step, model in document["models"].items()}
        return document

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Predictor:
        models = {
            int(step): Model(
                **{
                    **model,
                    "weights": tuple(model["weights"]),
                    "centre": tuple(model["centre"]),
                    "unlike": tuple(map(tuple, model["unlike"])),
                }
            )
            for step, model in document["models"].items()
        }
        return cls(**{**document, "checks": tuple(document["checks"]), "models": models})

    def _loss(self, value: float | None) -> float:
        """The loss of a value, drawn in; NaN for None and what is not finite."""
        if value is None or not math.isfinite(value):
            return math.nan
        return min(max(-value if self.maximize else value, -_HUGE), self.fence)


def _chance(sure: float) -> float:
    """Of an end so many standard deviations better than expected."""
    return float(stdtr(_FREEDOM, -sure * _WIDTH))


def _needed(progress: Array | float) -> Any:
    """How sure a stop must be at a progress in [0, 1], as a share of what it takes at the start: the later
    the check, the fewer surprises are left that no finished curve has shown."""
    return 1.15 - progress


def _columns(features: Array, best: Array, newest: Array, at: int) -> Array:
    """The regression's columns at check ``at``, shape (n, up to 5 + w): the best value, how much worse the
    newest is, by how much the best has improved since earlier checks, and the features."""
    now = best[:, at]
    earlier = [best[:, at - lag] - now for lag in _LAGS if lag <= at]
    return np.column_stack([now, newest[:, at] - now, *earlier, features])


def _cloud(own: Array) -> tuple[Array, Array]:
    """Where the curve columns of the finished trials, shape (n, c), lie: their centre and the inverse of
    their covariance times n, with a ridge of one row's weight."""
    centre = own.mean(axis=0)
    spread = own.std(axis=0)
    spread[spread <= 1e-10 * np.abs(own).max(axis=0)] = np.inf
    scaled = (own - centre) / spread
    inverse = np.linalg.inv(scaled.T @ scaled + np.eye(own.shape[1]))
    return centre, inverse / np.outer(spread, spread)


def _leverage(own: Array, centre: Array, unlike: Array) -> Array:
    """How unlike the finished ones curves are, shape (n,): by so much more than 1, the variance of a
    regression's error grows where it has to extrapolate."""
    off = own - centre
    leverage: Array = np.einsum("nc,cd,nd->n", off, unlike, off)
    return leverage


@dataclass(frozen=True, slots=True)
class _Fit:
    intercept: float
    weights: Array
    errors: Array
    """Shape (n,): what is predicted without the row, minus the row's target."""


def _ridge(columns: Array, targets: Array, width: int) -> _Fit:
    """Ridge regression with the penalty, and the weight of the last ``width`` columns against the others,
    that have the least leave-one-out error, which the singular value decomposition gives exactly."""
    n = len(targets)
    centre = columns.mean(axis=0)
    spread = columns.std(axis=0)
    constant = spread <= 1e-10 * np.abs(columns).max(axis=0)
    spread[constant] = np.inf  # its weight is 0
    mean = float(targets.mean())
    best: tuple[float, _Fit] | None = None
    for share in _SHARES if width else _SHARES[:1]:
        scale = 1.0 / spread
        scale[columns.shape[1] - width :] *= share / math.sqrt(max(width, 1))
        left, values, right = np.linalg.svd((columns - centre) * scale, full_matrices=False)
        turned = left.T @ (targets - mean)
        damped = values[:, None] ** 2 + n * np.array(_PENALTIES)  # a column for each penalty
        shrink = values[:, None] ** 2 / damped
        lever = left**2 @ shrink + 1.0 / n
        fitted = left @ (shrink * turned[:, None])
        errors = (fitted - (targets - mean)[:, None]) / np.maximum(1.0 - lever, 1e-9)
        scores = (errors**2).mean(axis=0)
        at = int(np.argmin(scores))
        if best is None or scores[at] < best[0]:
            weights = scale * (right.T @ (turned * values / damped[:, at]))
            best = (float(scores[at]), _Fit(mean - float(centre @ weights), weights, errors[:, at]))
    assert best is not None
    return best[1]


def _calibrate(best: Array, expected: Array, spreads: Array, rule: Predicted) -> float:
    """How many spreads worse than the incumbent a trial must be expected to end to be stopped, such that
    the true best of all is stopped with the risk that was asked for.

    A trial in any order meets as incumbent the best of the worse ones half of the time, the second best in
    one of six, the j-th best in one of j (j + 1).

    Args:
        best: best losses of the finished curves, shape (n, k).
        expected: where each was expected to end at each check by the others, shape (n, k); NaN: not judged.
        spreads: units in which to say how sure the others were, shape (n, k).
    """
    order = np.argsort(best[:, -1], kind="stable")
    best, expected, spreads = best[order], expected[order], spreads[order]
    ends = best[:, -1]
    found: list[float] = []
    shares: list[float] = []
    for i in range((len(ends) + 1) // 2):
        judged_there = np.isfinite(expected[i]) & ((best[i + 1 :] < best[i]).sum(axis=0) >= rule.protect)
        for place, incumbent in enumerate(ends[i + 1 : i + 1 + _INCUMBENTS], start=1):
            sure = (expected[i] - incumbent)[judged_there] / spreads[i][judged_there]
            found.append(float(sure.max(initial=0.0)))
            shares.append(1.0 / (place * (place + 1)))
    least = -float(stdtrit(_FREEDOM, _SHARE * rule.risk)) / _WIDTH
    return max(_tail(np.array(found), np.array(shares), rule.risk), least)


def _tail(found: Array, shares: Array, risk: float) -> float:
    """What is exceeded with probability ``risk``: beyond the highest fifth of what was found the tail is
    taken for exponential (peaks over a threshold; Pickands 1975), its mean for the prior's while few were
    found."""
    order = np.argsort(-found, kind="stable")
    found, shares = found[order], shares[order] / shares.sum()
    at = min(int(np.searchsorted(np.cumsum(shares), _TAIL)), len(found) - 1)
    mean = float(np.average(found[: at + 1] - found[at], weights=shares[: at + 1]))
    prior, worth = _EXCESS
    replays = _TAIL * len(found) / _INCUMBENTS
    mean = (replays * mean + worth * prior) / (replays + worth)
    return float(found[at]) + mean * math.log(max(_TAIL / risk, 1.0))
