"""Which surrogate suits a study: the one that foresees best what it was not told.

The study's own curves are parted into two halves. Of each curve of one half a beginning is told, drawn at
random and perhaps empty, with the other half whole; the newest point of it is asked for. A surrogate's
score is the mean log density of what was asked, over both halves, each point weighted by its progress,
since ends are what counts. Another than the default is taken only if it is ahead by more than one standard
error of the difference (the one-standard-error rule; Breiman et al., "Classification and Regression Trees",
1984).

A strategy has no memory, so the choice is a function of the study as it is. That it costs little and seldom
changes, it looks only at the first so many trials, a number that grows by half, and at curves only up to
the highest rung that they have come to. While nothing of that changes, the process that scored it last
knows the answer.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np

from search.surrogates.base import Fit
from search.surrogates.history import (
    Array,
    LossScale,
    Points,
    Progress,
    best_loss,
    most_telling,
    points_of,
)
from search.surrogates.registry import DEFAULT, load, names
from search.view import StudyView

_FIRST, _GROWTH = 8, 1.5
"""Trials that are looked at: at least, and by how much more the next time."""
_POINTS = 100
_LEAST_SPREAD = 0.3
"""As ``curve-bo`` divides losses by."""
_WORST = -5.0
"""The least log density that counts for a point: one bad surprise must not decide."""


@dataclass(frozen=True, slots=True)
class Choice:
    """A surrogate, and why."""

    name: str
    scores: dict[str, float]
    """Weighted mean log density by surrogate; empty while there is too little to judge by."""
    asked: int
    """Points that were foreseen."""

    def report(self) -> dict[str, Any]:
        return {
            "chosen": self.name,
            "held_out": self.asked,
            "log_density": {name: round(score, 4) for name, score in self.scores.items()},
        }


@dataclass(frozen=True, slots=True)
class Split:
    """What is told and what is asked."""

    told: Points
    asked: Points


def choose(view: StudyView, features: Array, levels: Sequence[int]) -> Choice:
    """The surrogate for a study.

    Args:
        view: the study.
        features: of its trials, shape (trials, d).
        levels: its rungs, rising.
    """
    count = _FIRST
    while math.ceil(count * _GROWTH) <= len(view.trials):
        count = math.ceil(count * _GROWTH)
    if len(view.trials) < _FIRST:
        return Choice(DEFAULT, {}, 0)
    trials = []
    for trial in view.trials[:count]:
        level = max((step for step in levels if trial.steps and step <= trial.steps[-1]), default=math.inf)
        upto = sum(step <= level for step in trial.steps)
        trials.append(replace(trial, steps=trial.steps[:upto], values=trial.values[:upto]))
    early = replace(view, trials=tuple(trials))
    bests = np.array([best_loss(early, trial) for trial in trials])
    if np.isfinite(bests).sum() < 2:
        return Choice(DEFAULT, {}, 0)
    scale = LossScale.of(bests.tolist(), [view.loss(value) for trial in trials for value in trial.values])
    every = points_of(early, features[:count], scale, Progress.of(view.fidelity))
    told = most_telling(every, bests, _POINTS, np.random.default_rng(count))
    values = told.values / max(float(told.values.std()), _LEAST_SPREAD)
    width = told.features.shape[1]
    return choose_by_bytes(
        width, told.features.tobytes(), told.progress.tobytes(), told.owner.tobytes(), values.tobytes()
    )


@lru_cache(maxsize=16)
def choose_by_bytes(width: int, features: bytes, progress: bytes, owner: bytes, values: bytes) -> Choice:
    """The choice by points, from the bytes of their arrays (which are what a cache can compare)."""
    points = Points(
        np.frombuffer(features).reshape(-1, width).copy(),
        np.frombuffer(progress).copy(),
        np.frombuffer(owner, dtype=np.intp).copy(),
        np.frombuffer(values).copy(),
    )
    parts = list(splits(points, np.random.default_rng(len(points))))
    densities = {name: log_densities(load(name), parts) for name in names()}
    return best(densities, np.concatenate([part.asked.progress for part in parts]))


def best(densities: dict[str, Array], weights: Array) -> Choice:
    """The choice by the log densities of the same points and their weights, each of shape (n,)."""
    if not weights.any():
        return Choice(DEFAULT, {}, len(weights))
    shares = weights / weights.sum()
    scores = {name: float(shares @ each) for name, each in densities.items()}
    ahead = max(scores, key=lambda name: scores[name])
    gain = densities[ahead] - densities[DEFAULT]
    mean, alike = float(shares @ gain), float((shares**2).sum())  # 1 / alike points count, in effect
    error = math.sqrt(float(shares @ (gain - mean) ** 2) * alike / (1 - alike)) if alike < 1 else math.inf
    return Choice(ahead if mean > error else DEFAULT, scores, len(gain))


def splits(points: Points, rng: np.random.Generator) -> Iterator[Split]:
    """Two splits that ask for the newest point of every curve once."""
    owners = rng.permutation(np.unique(points.owner))
    for half in (owners[::2], owners[1::2]):
        told = np.ones(len(points), dtype=np.bool_)
        asked = []
        for owner in half.tolist():
            mine = np.flatnonzero(points.owner == owner)
            kept = int(rng.integers(len(mine)))
            told[mine[kept:]] = False
            asked.append(int(mine[-1]))
        if asked and told.any():
            yield Split(points.take(np.flatnonzero(told)), points.take(np.array(asked)))


def log_densities(fit: Fit, parts: Sequence[Split]) -> Array:
    """Of every point asked for, shape (n,); noise is part of what is foreseen. The least that counts where
    the surrogate cannot be fitted."""
    found = []
    for part in parts:
        try:
            model = fit(part.told, np.random.default_rng(0))
        except np.linalg.LinAlgError:
            found.append(np.full(len(part.asked), _WORST))
            continue
        mean, sd, _ = model.outlook(part.asked.features, part.asked.owner).at(part.asked.progress)
        variance = sd**2 + model.noise
        error = (part.asked.values - mean) ** 2 / variance
        found.append(np.maximum(-0.5 * (error + np.log(2 * math.pi * variance)), _WORST))
    return np.concatenate(found)
