"""The part of ``curve-bo`` that no model can mislead: asynchronous successive halving of Sobol points.

An explorer is known by its first target, the lowest rung, at which a model starts nothing (unless there is
no other).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from search.beliefs import leaning
from search.decision import Answer, Continue
from search.sampling import sobol_points
from search.strategies.asha import halve
from search.strategies.rungs import ladder, promotions, rung_levels
from search.view import Fidelity, StudyView, TrialView

ETA = 3
"""One in as many goes on from a rung to the next."""


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
