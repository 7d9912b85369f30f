"""The part of ``curve-bo`` that no model can mislead: asynchronous successive halving of Sobol points.

An explorer is known by its first target, the lowest rung, at which a model starts nothing (unless there is
no other). How much of the training is theirs, results decide: where most configurations never learn and the
few that do lie scattered, a model's choices are no better than theirs.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from search.beliefs import leaning
from search.decision import Answer, Continue
from search.sampling import sobol_points
from search.strategies.asha import halve
from search.strategies.rungs import Standing, ladder, loss_at, promotions, rung_levels
from search.view import Fidelity, StudyView, TrialView

ETA = 3
"""One in as many goes on from a rung to the next."""
_LEAST_SHARE, _MOST_SHARE = 1 / 3, 0.9
"""Bounds of the explorers' part of all training."""
_TOP = 0.1
"""A trial of the model's choice is a success if it is clearly better than the best such share of the
explorers; chance alone would give as many successes."""
_MARGIN = 0.1
"""What "clearly" is, in units of the distance from there to the median: on a plateau a hair's breadth
counts for nothing."""
_SKILLED = 0.4
"""Share of successes from which on the explorers get no more than their least."""
_RECENT = 30
"""The model's choices that are counted: the newest."""
_BEFORE = (2, 4)
"""Successes, and trials, that are taken for granted before there are any."""


def lowest_rung(fidelity: Fidelity) -> int:
    """The first target of an explorer."""
    return rung_levels(fidelity, ETA)[0]


class Explorers:
    """Those of a study."""

    def __init__(self, view: StudyView) -> None:
        self.view = view
        self.levels = rung_levels(view.fidelity, ETA)
        self.trials = [trial for trial in view.trials if self.are(trial)]

    def are(self, trial: TrialView) -> bool:
        """Whether the trial is one of them; configurations that a person enqueued are, too."""
        return trial.first_target == self.levels[0]

    def share(self) -> float:
        """Their part of all training: the less, the more often what the model starts is clearly better.

        Each of the newest trials that the model started is compared with the explorers at the highest rung
        to which both have come.
        """
        bars = [self._bar(ranked) for ranked in ladder(self.view, self.trials, self.levels)]
        rivals = [trial for trial in self.view.trials if trial.origin == "strategy" and not self.are(trial)]
        successes, told = _BEFORE
        for trial in rivals[-_RECENT:]:
            success = None
            for rung, bar in enumerate(bars):
                loss = loss_at(self.view, trial, self.levels, rung)
                if loss is not None and bar is not None:
                    success = loss < bar
            if success is not None:
                successes += success
                told += 1
        lack = (_SKILLED - successes / told) / (_SKILLED - _TOP)
        return _LEAST_SHARE + (_MOST_SHARE - _LEAST_SHARE) * min(1.0, max(0.0, lack))

    def _bar(self, ranked: Sequence[Standing]) -> float | None:
        """The loss that is clearly better than the best tenth at a rung; None if too few came there."""
        place = math.ceil(_TOP * len(self.trials))
        if len(ranked) <= place:
            return None
        top, middle = ranked[place - 1].loss, ranked[len(ranked) // 2].loss
        return top - _MARGIN * (middle - top) if math.isfinite(middle) else top

    def due(self) -> Iterator[Continue]:
        """Those that go on by the rule, the highest rung first."""
        rungs = ladder(self.view, self.trials, self.levels)
        return promotions(rungs, self.levels, ETA, self.view.fidelity.unit)

    def points(self) -> Iterator[npt.NDArray[np.float64]]:
        """The Sobol sequence of the study's seed, from the first point that was not launched."""
        place = sum(trial.origin == "strategy" for trial in self.trials)
        sequence = sobol_points(len(self.view.space.dimensions), place, self.view.seed)
        return leaning(self.view.space, sequence, place)

    def decide(self, slots: int, rng: np.random.Generator, reason: str) -> Answer:
        """What to do while there is no model."""
        return halve(self.view, self.trials, self.levels, ETA, slots, self.points(), rng, reason)
