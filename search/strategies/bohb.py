"""``bohb``: Hyperband whose new configurations come from a model.

Falkner et al., "BOHB: Robust and Efficient Hyperparameter Optimization at Scale" (2018), with the brackets
and checkpointed promotions of :mod:`search.strategies.hyperband`. A Parzen estimator
(:mod:`search.strategies.parzen`) is fitted to the results at the highest rung that has enough of them,
two more than there are parameters and one; a share of the configurations is still drawn at random, which
keeps Hyperband's guarantee when the model is wrong. Who has passed a rung counts there, whatever the
bracket.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from search.beliefs import leaning
from search.decision import Answer
from search.sampling import fresh, tried, uniform_points
from search.space import ParamValue, SearchSpace
from search.strategies import hyperband
from search.strategies.asha import ETA
from search.strategies.hyperband import Drawn
from search.strategies.knowledge import BLAMED
from search.strategies.options import Option, read_options
from search.strategies.rungs import Ladder, Standing, ladder, rung_levels
from search.view import Fidelity, StudyView, TrialView

if TYPE_CHECKING:
    from search.strategies.parzen import ParzenEstimator


@dataclass(frozen=True, slots=True)
class Bohb:
    """See the module."""

    eta: float = 3
    random_share: float = 1 / 3
    """The probability that a new configuration is drawn at random."""

    name: ClassVar[str] = "bohb"
    lookahead: ClassVar[bool] = False
    known_options: ClassVar[tuple[Option, ...]] = (ETA, Option("random_share", at_least=0, at_most=1))
    conditional: ClassVar[bool] = True
    categorical: ClassVar[bool] = True
    outcomes: ClassVar[bool] = False
    forks: ClassVar[bool] = False

    @classmethod
    def create(cls, options: Mapping[str, ParamValue], space: SearchSpace, fidelity: Fidelity) -> Bohb:
        return cls(**read_options(cls.name, options, cls.known_options))

    def first_target(self, fidelity: Fidelity) -> int:
        return rung_levels(fidelity, self.eta)[0]

    def decide(self, view: StudyView, slots: int, rng: np.random.Generator) -> Answer:
        source = _Source(view, rung_levels(view.fidelity, self.eta), self.random_share, rng)
        answer = hyperband.decide(view, slots, self.eta, source.draw)
        return Answer(answer.decisions, {**answer.diagnostics, "model": source.diagnostics()})


class _Source:
    """Where the configurations of one decision come from."""

    def __init__(
        self, view: StudyView, levels: tuple[int, ...], random_share: float, rng: np.random.Generator
    ) -> None:
        self._view = view
        self._random_share = random_share
        self._rng = rng
        self._seen = tried(view)
        self._points = leaning(
            view.space, uniform_points(len(view.space.dimensions), rng), len(view.trials)
        )
        self._needed = len(view.space.dimensions) + 3
        rung, self._results = _highest_with(self._needed, ladder(view, view.trials, levels))
        self._level = levels[rung]
        self._launched: list[Mapping[str, ParamValue]] = []

    def draw(self) -> Drawn | None:
        """A configuration that was not tried yet, and how it was chosen; None if there is none left."""
        modelled = len(self._results) >= self._needed and self._rng.random() >= self._random_share
        params = self._estimator.draw(self._seen) if modelled else None
        if params is not None:
            words = (
                f"a configuration drawn where the best of {len(self._results)} results at "
                f"{self._level} {self._view.fidelity.unit} lie and the others do not"
            )
        else:
            params = fresh(self._view.space, self._seen, self._points, self._rng)
            words = "a random configuration"
            if modelled:
                words += ", since the model has nothing untried to offer"
        if params is None:
            return None
        self._launched.append(params)
        return params, words

    @cached_property
    def _estimator(self) -> ParzenEstimator:
        from search.strategies.parzen import ParzenEstimator  # importing Optuna takes a second

        known = {trial.number for trial, _ in self._results}
        return ParzenEstimator(
            self._view.space,
            [(trial.params, loss) for trial, loss in self._results],
            [
                *(t.params for t in self._view.trials if t.active and t.number not in known),
                *self._launched,
            ],
            int(self._rng.integers(2**31)),
        )

    def diagnostics(self) -> dict[str, Any]:
        return {"rung": self._level, "results": len(self._results), "needed": self._needed}


def _highest_with(needed: int, rungs: Ladder) -> tuple[int, list[tuple[TrialView, float]]]:
    """The highest rung with so many results, or the lowest, and its results."""
    results = [_results(standings) for standings in rungs]
    rung = max((k for k, found in enumerate(results) if len(found) >= needed), default=0)
    return rung, results[rung]


def _results(standings: Sequence[Standing]) -> list[tuple[TrialView, float]]:
    """Trials at a rung with finite losses, the oldest first.

    Who failed by its configuration's fault counts as the worst; who failed otherwise does not count.
    """
    worst = max((s.loss for s in standings if math.isfinite(s.loss)), default=None)
    if worst is None:
        return []
    return [
        (s.trial, min(s.loss, worst))
        for s in sorted(standings, key=lambda standing: standing.trial.number)
        if math.isfinite(s.loss) or s.trial.failure is None or s.trial.failure in BLAMED
    ]
