"""``tpe``: a tree-structured Parzen estimator (Optuna's) of fully trained trials.

A Sobol design comes first; what the model is told of failures and of early stops is that of
:mod:`search.strategies.knowledge`, what it does with it in :mod:`search.strategies.parzen`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from search.decision import Answer, Launch
from search.space import Key, ParamValue, SearchSpace
from search.strategies import modelled
from search.strategies.knowledge import Knowledge
from search.strategies.modelled import Suggestion
from search.strategies.options import Option, read_options
from search.view import Fidelity, StudyView


@dataclass(frozen=True, slots=True)
class Tpe:
    """See the module."""

    initial_trials: int
    """Size of the Sobol design; configurations that are enqueued or imported count."""

    name: ClassVar[str] = "tpe"
    lookahead: ClassVar[bool] = False
    known_options: ClassVar[tuple[Option, ...]] = (Option("initial_trials", whole=True, at_least=2),)
    conditional: ClassVar[bool] = True
    categorical: ClassVar[bool] = True
    outcomes: ClassVar[bool] = False
    forks: ClassVar[bool] = False

    @classmethod
    def create(cls, options: Mapping[str, ParamValue], space: SearchSpace, fidelity: Fidelity) -> Tpe:
        given = read_options(cls.name, options, cls.known_options)
        return cls(int(given.get("initial_trials", 10)))

    def first_target(self, fidelity: Fidelity) -> int:
        return fidelity.max

    def decide(self, view: StudyView, slots: int, rng: np.random.Generator) -> Answer:
        def model(
            known: Knowledge, launches: Sequence[Launch], seen: set[Key], count: int
        ) -> tuple[list[Suggestion], dict[str, Any]]:
            from search.strategies.parzen import ParzenEstimator  # importing Optuna takes a second

            results = known.by_age()
            estimator = ParzenEstimator(
                view.space,
                [(trial.params, loss) for trial, loss in results],
                [*(t.params for t in known.pending), *(launch.params for launch in launches)],
                int(rng.integers(2**31)),
            )
            best, loss = min(results, key=lambda result: result[1])
            reason = (
                f"drawn where the best of {len(results)} results lie and the others do not "
                f"(best: {-loss if view.maximize else loss:.4g}, trial {best.number})"
            )
            taken = set(seen)
            suggestions: list[Suggestion] = []
            while len(suggestions) < count and (params := estimator.draw(taken)) is not None:
                suggestions.append((params, reason))
            return suggestions, {}

        return modelled.decide(view, slots, rng, self.initial_trials, model)
