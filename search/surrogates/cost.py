"""What training costs: seconds per unit of fidelity, by configuration.

The seconds of a training are taken for rate(configuration) units^power; a power below 1 stands for what
starting takes. A Gaussian process (a linear kernel plus a smooth one) over the encoded features predicts
the logarithm of the rate from what the workers measured. Its few settings, and the power, are chosen by
leave-one-out density. It is believed only if it foretells a good part of the differences between trials
that it was not told of; else, and where trials differ by less than a tenth, *all configurations cost the
same*: exactly, so that decisions which divide by the cost do not change for noise.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np

from search.surrogates.history import Array
from search.view import TrialView

_LEAST_SECONDS = 0.1
"""Shorter trainings are timed too roughly to say anything."""
_FEW = 5
"""With fewer trials there is no model."""
_MOST = 150
"""Trials that a model is told of, evenly spread over the study."""
_ALIKE = math.log(1.1)
"""Where the logarithms' standard deviation is below, all cost the same."""
_EXPLAINED = 0.25
"""Share of the variance that a model must foretell (leave-one-out) to be believed, and 2/n more."""
_SMOOTH, _LENGTHS, _NOISES = (0.3, 1.0), (0.7, 2.0), (0.1, 0.3, 0.8)
"""Amplitude and length-scale of the smooth rest, and standard deviation of the noise, that are compared; in
units of the values' standard deviation and of the features."""
_POWERS = (1.0, 0.85, 0.7, 0.55)
_BEYOND = math.log(2)
"""Predictions stay within the values seen, and so much beyond on either side."""


@dataclass(frozen=True, slots=True)
class Costs:
    """What is known of a study's costs. Features are of one encoding, ``n`` trials told of."""

    trials: int
    typical: float
    """Mean logarithm of the rate over what was expected before; 0 if nothing was measured."""
    model: _Model | None = None
    """None: all configurations cost the same, but for what was expected before."""
    power: float = 1.0
    """Of the units trained."""
    explained: float = 0.0
    """Of the variance, leave-one-out."""

    @classmethod
    def of(cls, trials: Sequence[TrialView], features: Array, expected: Array | None = None) -> Costs:
        """From the trials whose seconds are known; ``features`` has a row for each trial.

        ``expected``, shape (trials,), is the logarithm of what each was expected to cost per unit, in any
        unit of time; the model learns the rest.
        """
        timed = [i for i, t in enumerate(trials) if t.step > 0 and t.seconds >= _LEAST_SECONDS]
        if not timed:
            return cls(0, 0.0)
        told = np.array(timed, dtype=np.intp)
        if len(told) > _MOST:
            told = told[np.linspace(0, len(told) - 1, _MOST).astype(np.intp)]
        steps = np.array([trials[i].step for i in told.tolist()], dtype=np.float64)
        seconds = np.array([trials[i].seconds for i in told.tolist()])
        logs = np.log(seconds) - (0.0 if expected is None else expected[told])
        rates = logs - np.log(steps)
        if len(told) < _FEW or rates.std() < _ALIKE:
            return cls(len(timed), float(rates.mean()))
        # Trainings of one length say nothing of the power.
        powers = _POWERS if len(np.unique(steps)) > 1 else _POWERS[:1]
        fits = [(power, *_fitted(features[told], logs - power * np.log(steps))) for power in powers]
        power, model, _, explained = max(fits, key=lambda found: found[2])
        if explained < _EXPLAINED + 2 / len(told):
            return cls(len(timed), float(rates.mean()), explained=explained)
        return cls(len(timed), model.centre, model, power, explained)

    @property
    def known(self) -> bool:
        """Whether any seconds were measured; without them costs are in units of what was expected."""
        return self.trials > 0

    @property
    def same(self) -> bool:
        """Whether all configurations cost the same, but for what was expected before."""
        return self.model is None

    def log_rate(self, features: Array) -> Array:
        """Logarithm of the rate over what was expected before, shape (m,)."""
        return np.full(len(features), self.typical) if self.model is None else self.model.predict(features)

    def log_seconds(self, log_rates: Array, steps: Array, targets: Array) -> Array:
        """Logarithm of the seconds from ``steps`` to ``targets``, all of shape (m,)."""
        found: Array = log_rates + np.log(targets**self.power - steps**self.power)
        return found

    def report(self) -> dict[str, Any]:
        """For diagnostics."""
        return {
            "timed_trials": self.trials,
            "rate": round(math.exp(self.typical), 6) if self.known else None,
            "power": self.power,
            "same": self.same,
            "explained": round(self.explained, 3),
        }


@dataclass(frozen=True, slots=True)
class _Model:
    """The posterior mean of the process."""

    features: Array
    weights: Array
    smooth: float
    length: float
    centre: float
    spread: float
    low: float
    high: float

    def predict(self, features: Array) -> Array:
        scaled = _kernel(features, self.features, self.smooth, self.length) @ self.weights
        found: Array = self.centre + self.spread * np.clip(scaled, self.low, self.high)
        return found


def _kernel(first: Array, second: Array, smooth: float, length: float) -> Array:
    """A constant, a linear and a squared exponential kernel, shape (m, n)."""
    squares = (first**2).sum(1)[:, None] + (second**2).sum(1)[None, :] - 2 * first @ second.T
    linear = (first - 0.5) @ (second - 0.5).T
    found: Array = 1 + 4 * linear + smooth**2 * np.exp(-0.5 * np.maximum(squares, 0.0) / length**2)
    return found


def _fitted(features: Array, rates: Array) -> tuple[_Model, float, float]:
    """The model of highest leave-one-out log-density, that density, and the share of variance foretold."""
    centre, spread = float(rates.mean()), max(float(rates.std()), 1e-9)
    values = (rates - centre) / spread
    best: tuple[float, float, float, Array, float] | None = None
    alone = values * len(values) / (len(values) - 1)  # each value less the mean of all others
    for smooth, length in product(_SMOOTH, _LENGTHS):
        roots, vectors = np.linalg.eigh(_kernel(features, features, smooth, length))
        turned = vectors.T @ values
        for noise in _NOISES:
            inverse = 1 / (np.maximum(roots, 0.0) + noise**2)
            weights = vectors @ (inverse * turned)
            precision = (vectors**2) @ inverse
            errors = weights / precision
            density = float(np.sum(0.5 * np.log(precision) - 0.5 * errors**2 * precision))
            if best is None or density > best[0]:
                explained = 1 - float((errors**2).sum() / (alone**2).sum())
                best = density, smooth, length, weights, explained
    assert best is not None
    density, smooth, length, weights, explained = best
    beyond = _BEYOND / spread
    low, high = float(values.min()) - beyond, float(values.max()) + beyond
    model = _Model(features, weights, smooth, length, centre, spread, low, high)
    return model, density - len(values) * math.log(spread), explained
