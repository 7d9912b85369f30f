"""How wide a model's intervals must be to be honest, from the study's own curves.

A Gaussian process that was fitted to a study's curves is too sure of where they go: its hyperparameters are
point estimates that have seen the points they are judged by, and some curves do what no other has done
before (leave a plateau, for one). By how much differs between studies. So the study is replayed: of each
curve the newest point is predicted from an earlier part of it, or from none, and from all other curves
whole. The absolute errors, in predicted standard deviations, say by which factor the intervals must be
widened so that nine tenths of them would have held: the weighted conformal quantile (Tibshirani, Barber,
Candès, Ramdas, "Conformal Prediction Under Covariate Shift", 2019), with replays that reach further along
the curves weighted more, since ends are asked for.

The factors are for what people are told: intervals and chances. What to train is decided without them, by
differences between configurations that one factor for all does not change much.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import ndtri

from search.surrogates.history import Array

_WITHIN = 0.9
WIDE = float(ndtri((1 + _WITHIN) / 2))
"""Standard deviations on each side of the mean that hold nine tenths of a normal distribution."""
_REACH = 0.5
"""How far from the end of the training, in progress, a replay's weight has fallen to 0.6."""
_PRIOR = 1.5 * np.abs(ndtri((np.arange(10) + 0.5) / 20))
"""Errors that are taken for granted: of a model half as sure again as it should be."""
_SEEN = 1.1
"""The hyperparameters have seen what the replays predict: so much more does it take for the unseen."""
_LEAST = 0.5


@dataclass(frozen=True, slots=True)
class Replays:
    """Predictions of the newest points of curves, ``n`` in all, and what came of them."""

    begun: npt.NDArray[np.bool_]
    """Shape (n,): whether an earlier part of the same curve was known."""
    progress: Array
    """Shape (n,): where on its curve the predicted point is."""
    errors: Array
    """Shape (n,): absolute, in predicted standard deviations."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """By which factors a model's standard deviations are to be multiplied."""

    new: float
    """Of configurations without a curve."""
    begun: float
    """Of those with one."""
    replays: int
    within_90: float
    """Weighted share of the replays that lay within the model's 90 % intervals *before* these were widened;
    NaN if there were none."""

    @classmethod
    def of(cls, replays: Replays) -> Calibration:
        """Where there are few replays, the factors are near 1.6, as it takes on the development curves."""
        weights = np.exp(-0.5 * ((1 - replays.progress) / _REACH) ** 2)
        total = float(weights.sum())
        held = float(weights @ (replays.errors <= WIDE)) / total if total else float("nan")
        begun = replays.begun
        return cls(
            _factor(replays.errors[~begun], weights[~begun]),
            _factor(replays.errors[begun], weights[begun]),
            len(weights),
            held,
        )

    def factors(self, begun: npt.NDArray[np.bool_]) -> Array:
        """The factor of each configuration, shape as ``begun``."""
        return np.where(begun, self.begun, self.new)

    def report(self) -> dict[str, Any]:
        """As JSON, for a decision's diagnostics."""
        return {
            "replays": self.replays,
            "within_90": round(self.within_90, 3) if self.replays else None,
            "widened": {"new": round(self.new, 3), "begun": round(self.begun, 3)},
        }


def _factor(errors: Array, weights: Array) -> float:
    every = np.concatenate([errors, _PRIOR])
    weight = np.concatenate([weights, np.ones(len(_PRIOR))])
    order = np.argsort(every, kind="stable")
    reached = np.cumsum(weight[order]) >= _WITHIN * weight.sum()
    return max(_LEAST, _SEEN * float(every[order][np.argmax(reached)]) / WIDE)
