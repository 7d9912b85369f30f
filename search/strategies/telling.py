"""What people are told of a model's predictions: in the metric's own units, calibrated."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from search.acquisition import probability_of_improvement
from search.strategies.common import percent
from search.surrogates.calibration import WIDE, Calibration, Flags
from search.surrogates.history import Array, LossScale


@dataclass(frozen=True, slots=True)
class Prediction:
    """Of the measurement at the end of a full training, in the metric's own direction."""

    low: float
    middle: float
    high: float
    """Nine tenths of the ends lie between ``low`` and ``high``; ``middle`` is the median."""
    chance: float
    """That it is better than the best measurement so far."""
    best: float
    """The best measurement so far."""

    def __str__(self) -> str:
        return (
            f"predicted to end at {self.middle:.4g} (90 %: {self.low:.4g} to {self.high:.4g}), "
            f"{percent(self.chance)} chance to beat the best so far, {self.best:.4g}"
        )


@dataclass(frozen=True, slots=True)
class Teller:
    """Turns what a model says of scaled losses into predictions."""

    calibration: Calibration
    noise: float
    """Variance of a measurement's noise."""
    scale: LossScale
    spread: float
    """What scaled losses were divided by for the model."""
    best: float
    """The least loss measured, not scaled."""
    maximize: bool

    def chances(self, mean: Array, sd: Array, begun: Flags) -> Array:
        """Of each end that it is better than the best measurement so far.

        ``mean``, ``sd``: of the ends, as the model has them; ``begun``: whether it knows a part of the
        curve. All of shape (m,).
        """
        best = float(self.scale.scale(self.best)) / self.spread
        chances: Array = probability_of_improvement(mean, self._sd(sd, begun), best)
        return chances * self.calibration.chances(begun)

    def predictions(self, mean: Array, sd: Array, begun: Flags) -> list[Prediction]:
        """Of ``m`` ends; arguments as of :meth:`chances`."""
        wide, chances = WIDE * self._sd(sd, begun), self.chances(mean, sd, begun)
        found = []
        for low, middle, high, chance in zip(mean - wide, mean, mean + wide, chances, strict=True):
            ends = sorted(self._value(self.scale.loss(self.spread * float(z))) for z in (low, middle, high))
            found.append(Prediction(ends[0], ends[1], ends[2], float(chance), self._value(self.best)))
        return found

    def _sd(self, sd: Array, begun: Flags) -> Array:
        widened: Array = self.calibration.widths(begun) * np.sqrt(sd**2 + self.noise)
        return widened

    def _value(self, loss: float) -> float:
        return -loss if self.maximize else loss
