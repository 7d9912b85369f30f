"""A study's learning curves as a surrogate is told them: features, progress, scaled losses."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from search.view import Fidelity, StudyView, TrialView

Array = npt.NDArray[np.float64]
Indices = npt.NDArray[np.intp]

_HUGE = 1e300
"""Losses are drawn in to this, so that differences of two stay finite."""
_WORST = 6.0
"""The largest scaled loss: how bad something hopeless is makes no difference."""
_DIVERGED = 3.0
"""The largest scaled loss that a divergence counts as."""
_RESOLUTION = 0.1
"""Least unit of the scale, as a share of the span of what was measured: while nothing has learned yet, tiny
differences are not taken for success."""
_THINNING = 1.7
"""Ratio of the steps of the points that are kept of a curve."""
_PER_CURVE = 5
"""Points kept of a curve: its newest, and four earlier ones."""


@dataclass(frozen=True, slots=True)
class Progress:
    """Steps on a logarithmic scale: 0 at the first measurement, 1 at the full fidelity."""

    first: int
    last: int

    @classmethod
    def of(cls, fidelity: Fidelity) -> Progress:
        return cls(max(1, min(fidelity.report_every, fidelity.min)), fidelity.max)

    def __call__(self, steps: npt.ArrayLike) -> Array:
        """Shape as ``steps``, each in [0, 1]."""
        if self.first >= self.last:
            return np.ones_like(np.asarray(steps, dtype=np.float64))
        at = np.maximum(np.asarray(steps, dtype=np.float64), self.first)
        return np.minimum(np.log(at / self.first) / math.log(self.last / self.first), 1.0)


@dataclass(frozen=True, slots=True)
class LossScale:
    """Losses on a scale on which 0 is the median trial.

    Better than the median the scale is linear, in units of the distance from there to the best trial (so
    that what is better than all so far can be extrapolated); above it, it is logarithmic, so that it makes
    little difference how bad a bad trial is.
    """

    centre: float
    unit: float

    @classmethod
    def of(cls, bests: Sequence[float], measured: Sequence[float]) -> LossScale:
        """From the best loss of each trial and all that was measured; non-finite ones are left out."""
        finite = np.clip([loss for loss in bests if math.isfinite(loss)], -_HUGE, _HUGE)
        if not len(finite):
            return cls(0.0, 1.0)
        every = np.clip([loss for loss in measured if math.isfinite(loss)], -_HUGE, _HUGE)
        centre, best = float(np.median(finite)), float(finite.min())
        span = float(np.quantile(every, 0.9)) - best
        unit = max(centre - best, _RESOLUTION * span) or max(abs(centre) * 1e-3, 1e-12)
        return cls(centre, unit)

    def scale(self, losses: npt.ArrayLike) -> Array:
        """Scaled losses; shape as ``losses``, none above 6. Non-finite ones are not for this."""
        with np.errstate(over="ignore"):
            above = (np.clip(np.asarray(losses, dtype=np.float64), -_HUGE, _HUGE) - self.centre) / self.unit
        return np.minimum(np.where(above <= 0, above, np.log1p(np.maximum(above, 0.0))), _WORST)

    def loss(self, scaled: float) -> float:
        """The loss of a scaled one."""
        return self.centre + self.unit * (scaled if scaled <= 0 else math.expm1(scaled))


@dataclass(frozen=True, slots=True)
class Points:
    """``n`` points of learning curves."""

    features: Array
    """Shape (n, width)."""
    progress: Array
    """Shape (n,)."""
    owner: Indices
    """Shape (n,): the place of the trial whose curve it is; points of one curve share it."""
    values: Array
    """Shape (n,): scaled losses."""

    def __len__(self) -> int:
        return len(self.values)

    @property
    def rivals(self) -> Array:
        """Of each point the least value of all other curves, infinite if there is none; shape (n,)."""
        curves, curve = np.unique(self.owner, return_inverse=True)
        leasts = np.full(len(curves), math.inf)
        np.minimum.at(leasts, curve, self.values)
        ranked = np.append(np.sort(leasts), math.inf)
        rivals: Array = np.where(leasts[curve] == ranked[0], ranked[1], ranked[0])
        return rivals

    def take(self, places: Indices) -> Points:
        return Points(self.features[places], self.progress[places], self.owner[places], self.values[places])

    def plus(self, other: Points) -> Points:
        return Points(
            np.concatenate([self.features, other.features]),
            np.concatenate([self.progress, other.progress]),
            np.concatenate([self.owner, other.owner]),
            np.concatenate([self.values, other.values]),
        )


def best_loss(view: StudyView, trial: TrialView) -> float:
    """The lowest finite loss of a trial's curve; infinite if there is none."""
    return min((view.loss(value) for value in trial.values), default=math.inf)


def points_of(view: StudyView, features: Array, scale: LossScale, progress: Progress) -> Points:
    """What there is to learn from: of each curve its newest point and log-spaced earlier ones.

    ``features`` has a row for each trial of the view. A non-finite value counts as the worst seen.
    """
    owners: list[int] = []
    steps: list[int] = []
    losses: list[float] = []
    for place, trial in enumerate(view.trials):
        for i in thinned(trial.steps):
            owners.append(place)
            steps.append(trial.steps[i])
            losses.append(view.loss(trial.values[i]))
    found = np.array(losses, dtype=np.float64)
    finite = np.isfinite(found)
    scaled = np.zeros(len(found))
    scaled[finite] = scale.scale(found[finite])
    scaled[~finite] = min(scaled[finite].max(initial=1.0), _DIVERGED)
    owner = np.array(owners, dtype=np.intp)
    return Points(features[owner], progress(steps), owner, scaled)


def thinned(steps: Sequence[int]) -> list[int]:
    """Indices of the newest of ``steps`` and of up to four earlier ones at about equal ratios, rising."""
    if not steps:
        return []
    kept = [len(steps) - 1]
    for i in range(len(steps) - 2, -1, -1):
        if len(kept) == _PER_CURVE:
            break
        if steps[i] * _THINNING <= steps[kept[-1]] or (i == 0 and kept[-1] > 0):
            kept.append(i)
    return kept[::-1]


def most_telling(points: Points, best: Array, limit: int, rng: np.random.Generator) -> Points:
    """At most ``limit`` points: all of the best curves, and the newest one of others, drawn at random.

    ``best`` has the best loss of each trial. Where the limit is reached, half of it goes to the best.
    """
    if len(points) <= limit:
        return points
    room = limit // 2
    order = np.argsort(best, kind="stable")
    counts = np.bincount(points.owner, minlength=len(best))
    chosen = order[np.cumsum(counts[order]) <= room]
    whole = np.isin(points.owner, chosen)
    newest = np.ones(len(points), dtype=np.bool_)
    newest[:-1] = points.owner[1:] != points.owner[:-1]
    rest = np.flatnonzero(newest & ~whole)
    room = limit - int(whole.sum())
    if len(rest) > room:
        rest = rng.choice(rest, room, replace=False)
    return points.take(np.sort(np.concatenate([np.flatnonzero(whole), rest])))
