"""Where a trial will end, by ordinary regression on the trials that were trained to the end.

After Baker, Gupta, Raskar and Naik, "Accelerating Neural Architecture Search using Performance Prediction"
(2017). At each of some steps at about equal ratios (the *checks*), a ridge regression says how much better
than now a trial will be at the full fidelity: from its hyperparameters, its best value and the newest one
there, and its best values at earlier checks. The spread of its errors is that of exact leave-one-out. From
both follows the chance of beating the best value that is known.

How small that chance must be for a stop is calibrated on the study itself (:func:`_calibrate`): each of
the better half of the finished curves was once the best of those not better than it; replayed without it,
how sure was the regression, at its worst moment, that it would not be?

``n`` is a number of trials, ``k`` of checks, ``w`` the width of the features.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr

from search.stopping import Forecast, Predicted
from search.surrogates.history import LossScale
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
_LEAST_SPREAD = 1e-3
"""Of the regression's errors, in units of the loss scale."""
_TAIL = 0.2
"""The share of replays, the most deceptive ones, to which the tail is fitted."""
_INCUMBENTS = 5
_SIDE = 1.645
"""Standard deviations on either side of a 90 % interval."""


def checks(fidelity: Fidelity) -> tuple[int, ...]:
    """The steps at which trials are judged, at about equal ratios, all of them measured; the last is the
    full fidelity, at which nothing is left to judge."""
    every, last = fidelity.report_every, fidelity.max
    step = -(-fidelity.min // every) * every
    found: list[int] = []
    while step < last:
        found.append(step)
        step = max(step + every, math.ceil(step * _RATIO / every) * every)
    return (*found, last)


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
    """The regression of one check, on scaled losses."""

    intercept: float
    weights: tuple[float, ...]
    """Of the columns that :func:`_columns` makes."""
    spread: float
    """Standard deviation of the error of the predicted end."""
    bar: float
    """Trials at least as good as this at the check are protected."""


@dataclass(frozen=True, slots=True)
class Predictor:
    """A fitted model of where trials end; small enough to be kept as JSON."""

    maximize: bool
    checks: tuple[int, ...]
    scale: LossScale
    models: Mapping[int, Model]
    """By step."""
    threshold: float
    """A trial is stopped when its chance of beating the best known value is under this."""
    curves: int
    """Finished curves that it was fitted to."""
    risk: float = 0.01

    @classmethod
    def fit(cls, curves: Curves, fidelity: Fidelity, maximize: bool, rule: Predicted) -> Predictor | None:
        """Fit to those of the curves that were measured at the full fidelity.

        None if these are fewer than the rule's ``min_trials``.
        """
        steps = checks(fidelity)
        finished = np.isfinite(curves.best[:, -1])
        if int(finished.sum()) < max(rule.min_trials, 3):
            return None
        sign = -1.0 if maximize else 1.0
        best = sign * curves.best[finished]
        newest = np.where(np.isfinite(curves.newest[finished]), sign * curves.newest[finished], best)
        scale = LossScale.of(best[:, -1].tolist(), best[np.isfinite(best)].tolist())
        best, newest = scale.scale(best), scale.scale(newest)
        features = curves.features[finished]
        models: dict[int, Model] = {}
        sureness = np.full(best.shape, np.nan)
        spreads = np.full(best.shape, np.nan)
        for at, step in enumerate(steps[:-1]):
            columns = _columns(features, best, newest, at)
            whole = np.isfinite(columns).all(axis=1)
            if int(whole.sum()) < max(rule.min_trials, 3):
                continue
            fit = _ridge(columns[whole], (best[:, -1] - best[:, at])[whole], features.shape[1])
            errors = fit.errors
            sureness[whole, at] = best[whole, -1] + errors
            squares = float((errors**2).sum())
            rest = (squares - errors**2) / (len(errors) - 1)
            spreads[whole, at] = np.sqrt(np.maximum(rest, _LEAST_SPREAD**2))
            among = np.sort(best[whole, at])
            models[step] = Model(
                fit.intercept,
                tuple(fit.weights.tolist()),
                max(math.sqrt(squares / len(errors)), _LEAST_SPREAD),
                float(among[min(rule.protect, len(among)) - 1]) if rule.protect else -math.inf,
            )
        threshold = _calibrate(best, sureness, spreads, rule)
        return cls(maximize, steps, scale, models, threshold, int(finished.sum()), rule.risk)

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
        best = np.array([[self._scaled(curve.get(s, (None, None))[0]) for s in self.checks[: at + 1]]])
        there = curve.get(step, (None, None))[1]
        newest = best.copy()
        if there is not None and math.isfinite(there):
            newest[0, at] = self._scaled(there)
        columns = _columns(features[None, :], best, newest, at)[0]
        if not np.isfinite(columns).all():
            return None
        now = float(best[0, at])
        end = min(now, now + model.intercept + float(columns @ np.array(model.weights)))
        bar = self._scaled(incumbent)
        chance = float(ndtr((bar - end) / model.spread))
        good, bad = (
            self._value(end - _SIDE * model.spread),
            self._value(min(now, end + _SIDE * model.spread)),
        )
        return Forecast(self._value(end), good, bad, chance, self.threshold, incumbent, now <= model.bar)

    def to_json(self) -> dict[str, Any]:
        """The predictor as JSON; :meth:`from_json` reads it again."""
        document = asdict(self)
        document["models"] = {str(step): model for step, model in document["models"].items()}
        return document

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Predictor:
        models = {int(step): Model(**model) for step, model in document["models"].items()}
        scale = LossScale(**document["scale"])
        return cls(**{**document, "checks": tuple(document["checks"]), "scale": scale, "models": models})

    def _scaled(self, value: float | None) -> float:
        if value is None or not math.isfinite(value):
            return math.nan
        return float(self.scale.scale(-value if self.maximize else value))

    def _value(self, scaled: float) -> float:
        loss = self.scale.loss(scaled)
        return -loss if self.maximize else loss


def _columns(features: Array, best: Array, newest: Array, at: int) -> Array:
    """The regression's columns at check ``at``, shape (n, up to 5 + w): the best value, how much worse the
    newest is, by how much the best has improved since earlier checks, and the features."""
    now = best[:, at]
    earlier = [best[:, at - lag] - now for lag in _LAGS if lag <= at]
    return np.column_stack([now, newest[:, at] - now, *earlier, features])


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
    spread = np.where(spread > 1e-12, spread, np.inf)  # a constant column has weight 0
    mean = float(targets.mean())
    best: tuple[float, _Fit] | None = None
    for share in _SHARES if width else _SHARES[:1]:
        scale = 1.0 / spread
        scale[columns.shape[1] - width :] *= share / math.sqrt(max(width, 1))
        left, values, right = np.linalg.svd((columns - centre) * scale, full_matrices=False)
        turned = left.T @ (targets - mean)
        for penalty in _PENALTIES:
            shrink = values**2 / (values**2 + penalty * n)
            lever = (left**2) @ shrink + 1.0 / n
            errors = (left @ (shrink * turned) - (targets - mean)) / np.maximum(1.0 - lever, 1e-9)
            score = float((errors**2).mean())
            if best is None or score < best[0]:
                weights = scale * (right.T @ (turned * values / (values**2 + penalty * n)))
                best = (score, _Fit(mean - float(centre @ weights), weights, errors))
    assert best is not None
    return best[1]


def _calibrate(best: Array, expected: Array, spreads: Array, rule: Predicted) -> float:
    """The chance under which a trial is stopped, such that the true best of all is stopped with the risk
    that was asked for.

    Args:
        best: scaled best losses of the finished curves, shape (n, k).
        expected: where each was expected to end at each check by the others, shape (n, k); NaN: not judged.
        spreads: of the errors of the others, shape (n, k).
    """
    ends = best[:, -1]
    order = np.argsort(ends, kind="stable")
    best, expected, spreads, ends = best[order], expected[order], spreads[order], ends[order]
    n = len(ends)
    found: list[float] = []
    shares: list[float] = []
    for i in range((n + 1) // 2):
        with np.errstate(invalid="ignore"):
            ahead = (best[i + 1 :] < best[i]).sum(axis=0)
        for place in range(1, min(_INCUMBENTS, n - 1 - i) + 1):
            # Trained before it in any order, the incumbent is the worse ones' best, second best ...
            with np.errstate(invalid="ignore"):
                sure = (expected[i] - ends[i + place]) / spreads[i]
            sure = sure[np.isfinite(sure) & (ahead >= rule.protect)]
            found.append(float(sure.max(initial=-math.inf)))
            shares.append(1.0 / (place * (place + 1)))
    return float(ndtr(-max(_tail(np.array(found), np.array(shares), rule.risk), 0.0)))


def _tail(found: Array, shares: Array, risk: float) -> float:
    """What is exceeded with probability ``risk``: beyond the highest fifth of what was found the tail is
    taken for exponential (peaks over a threshold; Pickands 1975), and for longer while badly known."""
    order = np.argsort(-found, kind="stable")
    found, above = found[order], np.cumsum(shares[order]) / shares.sum()
    at = int(np.searchsorted(above, _TAIL))
    start = float(found[at]) if math.isfinite(found[at]) else 0.0
    excess = np.maximum(found[: at + 1] - start, 0.0)
    mean = float(np.average(excess, weights=shares[order][: at + 1]))
    longer = 1.0 + 1.0 / math.sqrt(at + 1)
    return start + longer * mean * math.log(max(_TAIL / risk, 1.0))
