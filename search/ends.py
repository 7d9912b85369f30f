"""What each trial of a study came to, or would have come to: one scaled loss for each.

Trials that were stopped or paused early must not be compared with full ones as they are: a short training
looks bad whatever its configuration. So what counts is

- of a trial that was trained to the end: its best measurement;
- of one that was not, but was measured: where the model of ``curve-bo`` (:mod:`search.surrogates.curve_gp`)
  predicts it to end;
- of one that diverged or ran out of memory, for which the configuration is to blame, and of one that ended
  without keeping the study's limits: the worst of these.

Measurements that break a limit do not count (:meth:`~search.view.StudyView.counted`). Trials with no result
(queued, running before their first measurement that counts, crashed for another reason) are left out.
Losses are on the scale of :class:`~search.surrogates.history.LossScale`: 0 is the median trial, better is
linear, worse logarithmic, so that how hopeless something is makes little difference, 1e300 included.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from search.features import Features
from search.surrogates.feasibility import failed
from search.surrogates.history import (
    Array,
    Indices,
    LossScale,
    Points,
    Progress,
    best_loss,
    most_telling,
    points_of,
)
from search.table import Table
from search.view import StudyView, TrialView

_MODEL_POINTS = 300
_LEAST_SPREAD = 0.3
"""As ``curve-bo`` has them."""
_FOLDS = 5
_CHUNK = 2_048
"""Configurations predicted at a time."""


@dataclass(frozen=True, slots=True)
class Basis:
    """How many trials count as what."""

    measured: int
    predicted: int
    worst: int
    left_out: int

    @property
    def used(self) -> int:
        return self.measured + self.predicted + self.worst


class EndModel:
    """The model of a study's curves as a function of the configuration: where would it end?"""

    def __init__(self, view: StudyView, scale: LossScale, rng: np.random.Generator) -> None:
        """Fit it. At least one trial of ``view`` must have a finite measurement."""
        # Importing torch takes a second: only where something must be predicted.
        from search.surrogates.curve_gp import CurveGP, fit
        from search.threads import one_thread

        self._columns = Features.of(view.space)
        self._features = self._columns.encode([trial.params for trial in view.trials])
        every = points_of(view, self._features, scale, Progress.of(view.fidelity))
        bests = np.array([best_loss(view, trial) for trial in view.trials])
        chosen = most_telling(every, bests, _MODEL_POINTS, rng)
        self._spread = max(float(chosen.values.std()), _LEAST_SPREAD)
        told = Points(chosen.features, chosen.progress, chosen.owner, chosen.values / self._spread)
        with one_thread():
            self._model = CurveGP(told, fit(told, rng))

    def of_trials(self) -> Array:
        """The scaled loss at which each trial of the view is predicted to end, shape (trials,)."""
        return self._ends(self._features, np.arange(len(self._features)))

    def of(self, table: Table) -> Array:
        """The scaled loss at which each configuration would end, shape (n,)."""
        return self._ends(self._columns.encode_table(table), np.full(len(table), -1))

    @cached_property
    def explained(self) -> float:
        """How well trials are predicted from the others alone: 1 perfectly, 0 no better than a guess.

        Five-fold cross-validation over whole curves with the hyperparameters of the fit, at each curve's
        newest point; against a straight line through the losses over their progress.
        """
        from search.surrogates.curve_gp import CurveGP
        from search.threads import one_thread

        points = self._model.points
        newest = np.append(points.owner[1:] != points.owner[:-1], True)
        owners = np.unique(points.owner)
        if len(owners) < _FOLDS:
            return 0.0
        predicted = np.empty(len(points))
        fold = np.searchsorted(owners, points.owner) % _FOLDS
        with one_thread():
            for held in range(_FOLDS):
                model = CurveGP(points.take(np.flatnonzero(fold != held)), self._model.hyperparameters)
                mine = np.flatnonzero(fold == held)
                unknown = np.full(len(mine), -1, dtype=np.intp)
                predicted[mine] = model.outlook(points.features[mine], unknown).at(points.progress[mine])[0]
        values, progress = points.values[newest], points.progress[newest]
        line = np.stack([np.ones(len(values)), progress], axis=1)
        residual = values - line @ np.linalg.lstsq(line, values, rcond=None)[0]
        total = float((residual**2).sum())
        if total <= 1e-12:
            return 0.0
        return max(0.0, 1.0 - float(((values - predicted[newest]) ** 2).sum()) / total)

    def _ends(self, features: Array, owners: Indices) -> Array:
        from search.threads import one_thread

        found = []
        with one_thread():
            for start in range(0, len(features), _CHUNK):
                part = slice(start, start + _CHUNK)
                found.append(self._model.outlook(features[part], owners[part]).mean)
        return np.concatenate(found) * self._spread


@dataclass(frozen=True)
class Ends:
    """The trials that count, with their ends."""

    trials: tuple[TrialView, ...]
    losses: Array
    """Scaled, of ``trials``; finite."""
    basis: Basis
    model: EndModel | None
    """The model that predicted; None where nothing was to be predicted."""

    @classmethod
    def of(cls, view: StudyView, rng: np.random.Generator, *, modelled: bool = False) -> Ends:
        """The ends of a study's trials.

        ``modelled``: the model is wanted whether or not something must be predicted (where anything at all
        was measured).
        """
        view = view.counted()
        bests = [best_loss(view, trial) for trial in view.trials]
        usable = [math.isfinite(best) and not failed(t) for t, best in zip(view.trials, bests, strict=True)]
        full = [usable[i] and _whole(view, trial) for i, trial in enumerate(view.trials)]
        some = any(usable)
        scale = LossScale.of(bests, [view.loss(v) for trial in view.trials for v in trial.values])
        model = EndModel(view, scale, rng) if some and (modelled or full != usable) else None
        losses = np.full(len(view.trials), np.nan)
        if model is not None:
            early = np.array(usable) & ~np.array(full)
            losses[early] = model.of_trials()[early]
        for place, whole in enumerate(full):
            if whole:
                losses[place] = scale.scale(bests[place])
        blamed = np.array([failed(t) or _hopeless(t, b) for t, b in zip(view.trials, bests, strict=True)])
        # With nothing to compare with, there is no worst value to give.
        counted = some and bool(blamed.any())
        if counted:
            losses[blamed] = np.nanmax(losses)
        known = np.flatnonzero(np.isfinite(losses))
        return cls(
            tuple(view.trials[place] for place in known.tolist()),
            losses[known],
            Basis(
                measured=sum(full),
                predicted=sum(usable) - sum(full),
                worst=int(blamed.sum()) if counted else 0,
                left_out=len(view.trials) - len(known),
            ),
            model,
        )


def _whole(view: StudyView, trial: TrialView) -> bool:
    """Whether nothing is left to predict: it has reached the end, or the target value of the study."""
    return trial.step >= view.fidelity.max or trial.status == "completed"


def _hopeless(trial: TrialView, best: float) -> bool:
    """Whether it was measured, and never finite."""
    return bool(trial.values) and not math.isfinite(best)
