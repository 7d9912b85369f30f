"""How far a model's intervals and chances can be trusted, from the study's own curves.

A Gaussian process that was fitted to a study's curves is too sure of where they go: its hyperparameters are
point estimates that have seen the points they are judged by, and some curves do what no other has done
before (leave a plateau, for one). And of many configurations that are predicted much alike it expects too
many to become the best. By how much differs between studies. So the study is replayed: of each curve the
newest point is predicted from an earlier part of it, or from none, and from all other curves whole. Then

- intervals are widened by the factor with which nine tenths of them would have held: the weighted conformal
  quantile of the absolute errors (Tibshirani, Barber, Candès, Ramdas, "Conformal Prediction Under Covariate
  Shift", 2019);
- chances to become the best are lowered by the factor by which fewer became it than was to be expected.

Replays that reach further along the curves count more, since ends are asked for.

This is for what people are told. What to train is decided without it: moves are compared with one another,
which a factor for all of them does not change much.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import ndtri

from search.acquisition import probability_of_improvement
from search.surrogates.history import Array

Flags = npt.NDArray[np.bool_]

_WITHIN = 0.9
WIDE = float(ndtri((1 + _WITHIN) / 2))
"""Standard deviations on each side of the mean that hold nine tenths of a normal distribution."""
_REACH = 0.5
"""How far from the end of the training, in progress, a replay's weight has fallen to 0.6."""
_PRIOR = 2.0 * np.abs(ndtri((np.arange(10) + 0.5) / 20))
"""Errors that are taken for granted: of a model that is twice as sure as it should be."""
_SEEN = 1.2
"""The hyperparameters have seen what the replays predict: so much more does it take for the unseen."""
_LEAST = 0.5
"""Intervals get no narrower than by this factor."""


@dataclass(frozen=True, slots=True)
class Replays:
    """Predictions of the newest points of curves, ``n`` in all, and what came of them; all of (n,)."""

    begun: Flags
    """Whether an earlier part of the same curve was known."""
    progress: Array
    """Where on its curve the predicted point is."""
    mean: Array
    """What was predicted, with ``sd`` of the measurement."""
    sd: Array
    values: Array
    """What was measured."""
    rivals: Array
    """The least value of all other curves."""

    @property
    def errors(self) -> Array:
        """Absolute, in predicted standard deviations."""
        return np.abs(self.values - self.mean) / self.sd


@dataclass(frozen=True, slots=True)
class Correction:
    """What a model's predictions of one kind lack."""

    width: float
    """By which standard deviations are to be multiplied."""
    chance: float
    """By which, then, chances to become the best are to be multiplied; at most 1."""

    @classmethod
    def of(cls, replays: Replays, weights: Array, which: Flags) -> Correction:
        """From those of ``which``; where they are few, near what the development curves ask for."""
        errors = np.concatenate([replays.errors[which], _PRIOR])
        weight = np.concatenate([weights[which], np.ones(len(_PRIOR))])
        order = np.argsort(errors, kind="stable")
        at = int(np.argmax(np.cumsum(weight[order]) >= _WITHIN * weight.sum()))
        width = max(_LEAST, _SEEN * float(errors[order][at]) / WIDE)
        said = probability_of_improvement(replays.mean, width * replays.sd, replays.rivals)
        better = replays.values < replays.rivals
        came, expected = (float(weights[which] @ what[which]) for what in (better, said))
        return cls(width, min(1.0, (came + 1) / (expected + 1)))

    def report(self) -> dict[str, float]:
        return {"width": round(self.width, 3), "chance": round(self.chance, 3)}


@dataclass(frozen=True, slots=True)
class Calibration:
    """What is to be corrected before people are told."""

    new: Correction
    """Of configurations without a curve."""
    begun: Correction
    """Of those with one."""
    replays: int
    within_90: float | None
    """Weighted share of the replays that lay within the model's own 90 % intervals, not widened; None if
    there were none."""

    @classmethod
    def of(cls, replays: Replays) -> Calibration:
        weights = np.exp(-0.5 * ((1 - replays.progress) / _REACH) ** 2)
        held = float(np.average(replays.errors <= WIDE, weights=weights)) if len(weights) else None
        return cls(
            Correction.of(replays, weights, ~replays.begun),
            Correction.of(replays, weights, replays.begun),
            len(weights),
            held,
        )

    def widths(self, begun: Flags) -> Array:
        """The factor of each configuration's standard deviation, shape as ``begun``."""
        return np.where(begun, self.begun.width, self.new.width)

    def chances(self, begun: Flags) -> Array:
        """The factor of each configuration's chance to become the best, shape as ``begun``."""
        return np.where(begun, self.begun.chance, self.new.chance)

    def report(self) -> dict[str, Any]:
        """As JSON, for a decision's diagnostics."""
        return {
            "replays": self.replays,
            "within_90": None if self.within_90 is None else round(self.within_90, 3),
            "corrected": {"new": self.new.report(), "begun": self.begun.report()},
        }
