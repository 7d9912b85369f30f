"""The Gaussian process of ``curve-bo`` in the place of the predicted rule's regression.

It judges at the same checks, protects as many trials, and the threshold is calibrated in the same way: each
good finished curve is replayed without what came after a check, and how sure the process was, at its most
mistaken check, that it would not be the best decides how sure it must be to stop. So only the prediction
differs. Unlike the regression it learns from stopped curves, too.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from search import prediction
from search.prediction import checks, due, judged
from search.stopping import Predicted
from search.surrogates.curve_gp import CurveGP, fit
from search.surrogates.history import LossScale, Points, Progress, most_telling
from search.view import Fidelity

Array = npt.NDArray[np.float64]

MODEL_POINTS = 300


@dataclass(frozen=True)
class _Fitted:
    """The process, and what it takes to stop a trial."""

    model: CurveGP
    scale: LossScale
    spread: float
    sure: float
    """Standard deviations."""
    bars: dict[int, float]
    """By check: trials no worse are protected."""

    def scaled(self, losses: npt.ArrayLike) -> Array:
        return self.scale.scale(losses) / self.spread


@dataclass
class ProcessRule:
    """A rule of ``bench stopping``; ``values`` and ``best`` are those of its pool, shape (n, epochs)."""

    features: Array
    values: Array
    best: Array
    rule: Predicted
    seed: int = 0
    trained: list[tuple[int, int]] = field(default_factory=list)
    """Trials that are over, and how far they came."""
    learned_from: int = 0
    fitted: _Fitted | None = None

    def __post_init__(self) -> None:
        self.fidelity = Fidelity(1, self.values.shape[1], 1, "epochs")
        self.checks = checks(self.fidelity, self.rule)
        self.judged = judged(self.fidelity, self.rule)
        self.progress = Progress.of(self.fidelity)

    def stops(self, trial: int, epoch: int, incumbent: float) -> bool:
        """Whether the trial is stopped after ``epoch``; ``incumbent`` is the least loss of the others."""
        known = self.fitted
        if known is None or epoch not in self.judged or not math.isfinite(incumbent):
            return False
        best = float(self.best[trial, epoch - 1])
        if best <= known.bars.get(epoch, -math.inf):
            return False
        own = self._points([(trial, epoch)], known.scale, known.spread)
        model = CurveGP(known.model.points.plus(own), known.model.hyperparameters)
        outlook = model.outlook(self.features[[trial]], np.array([trial], dtype=np.intp))
        spread = math.sqrt(float(outlook.sd[0]) ** 2 + model.noise)
        end = min(float(outlook.mean[0]), float(known.scaled(best)))
        needed = known.sure * prediction._needed(epoch / self.fidelity.max)
        return bool(end - float(known.scaled(incumbent)) > needed * spread)

    def ended(self, trial: int, epochs: int) -> None:
        """The trial was trained for so many epochs and is over."""
        self.trained.append((trial, epochs))
        finished = [t for t, e in self.trained if e == self.fidelity.max and self._whole(t)]
        if due(self.rule, len(finished), self.learned_from):
            self.learned_from = len(finished)
            self.fitted = self._fit(finished)

    def _whole(self, trial: int) -> bool:
        return math.isfinite(self.values[trial, -1])

    def _fit(self, finished: list[int]) -> _Fitted:
        rng = np.random.default_rng([self.seed, len(self.trained)])
        places = [trial for trial, _ in self.trained]
        bests = np.full(len(self.values), np.inf)
        bests[places] = [
            float(np.min(self.values[t, :e], where=np.isfinite(self.values[t, :e]), initial=np.inf))
            for t, e in self.trained
        ]
        measured = np.concatenate([self.values[t, :e] for t, e in self.trained])
        scale = LossScale.of(bests[places].tolist(), measured[np.isfinite(measured)].tolist())
        bare = self._points(self.trained, scale, 1.0)
        chosen = most_telling(bare, bests, MODEL_POINTS, rng)
        spread = max(float(chosen.values.std()), 0.3)
        told = Points(chosen.features, chosen.progress, chosen.owner, chosen.values / spread)
        model = CurveGP(told, fit(told, rng))
        bars = {
            step: float(np.sort(self.best[finished, step - 1])[: self.rule.protect][-1])
            for step in self.judged
        }
        known = _Fitted(model, scale, spread, 0.0, bars)
        return _Fitted(model, scale, spread, self._sure(finished, known), bars)

    def _sure(self, finished: list[int], known: _Fitted) -> float:
        """How many standard deviations it takes, by replays of the finished curves."""
        shape = (len(finished), len(self.checks))
        expected, spreads = np.full(shape, np.nan), np.full(shape, np.nan)
        replays, points = known.model.replays(), known.model.points
        rows = {trial: row for row, trial in enumerate(finished)}
        at = self.progress(self.checks)
        for place in np.flatnonzero(replays.begun).tolist():
            # A replay stands where its curve's point before stands; one point has one replay.
            row = rows.get(int(points.owner[place]))
            if row is None or replays.progress[place] < 1:
                continue
            check = int(np.argmin(np.abs(at - points.progress[place - 1])))
            if self.checks[check] in self.judged:
                expected[row, check] = replays.mean[place]
                spreads[row, check] = replays.sd[place]
        best = known.scaled(self.best[np.ix_(np.array(finished), np.array(self.checks) - 1)])
        needed = prediction._needed(np.array(self.checks) / self.fidelity.max)
        return float(prediction._calibrate(best, expected, spreads / needed, self.rule))

    def _points(self, curves: list[tuple[int, int]], scale: LossScale, spread: float) -> Points:
        """The finite points of curves at the checks, up to where they came."""
        owners, steps, losses = [], [], []
        for trial, epochs in curves:
            for step in self.checks:
                if step <= epochs and math.isfinite(self.values[trial, step - 1]):
                    owners.append(trial)
                    steps.append(step)
                    losses.append(float(self.values[trial, step - 1]))
        owner = np.array(owners, dtype=np.intp)
        return Points(self.features[owner], self.progress(steps), owner, scale.scale(losses) / spread)
