"""``curve-bo``: explorers first, then a model of all curves too (:mod:`search.strategies.curve_bo`)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from search.decision import Answer
from search.space import ParamValue, SearchSpace
from search.strategies.explorers import Explorers, lowest_rung
from search.strategies.options import Option, read_options, words_of
from search.surrogates.history import best_loss
from search.surrogates.registry import DEFAULT, check
from search.view import Fidelity, StudyView


@dataclass(frozen=True, slots=True)
class CurveBO:
    """See the module."""

    initial_trials: int
    """Size of the Sobol design; configurations that are enqueued or imported count."""
    surrogate: str = DEFAULT
    """The model of all curves: a name of :mod:`search.surrogates.registry`, or "auto"."""

    name: ClassVar[str] = "curve-bo"
    lookahead: ClassVar[bool] = False
    known_options: ClassVar[tuple[Option, ...]] = (
        Option("initial_trials", whole=True, at_least=2),
        Option("surrogate", word=True),
    )
    conditional: ClassVar[bool] = True
    categorical: ClassVar[bool] = True
    outcomes: ClassVar[bool] = False
    forks: ClassVar[bool] = False

    @classmethod
    def create(cls, options: Mapping[str, ParamValue], space: SearchSpace, fidelity: Fidelity) -> CurveBO:
        given = read_options(cls.name, options, cls.known_options)
        default = min(10, max(4, len(space.dimensions) + 2))
        surrogate = words_of(options, cls.known_options).get("surrogate", DEFAULT)
        check(surrogate)
        return cls(int(given.get("initial_trials", default)), surrogate)

    def first_target(self, fidelity: Fidelity) -> int:
        return lowest_rung(fidelity)

    def decide(self, view: StudyView, slots: int, rng: np.random.Generator) -> Answer:
        usable = sum(math.isfinite(best_loss(view, trial)) for trial in view.trials)
        if len(view.trials) < self.initial_trials or usable < 2:
            why = (
                f"the first {self.initial_trials}"
                if usable >= 2 or not view.trials
                else "too few finite results"
            )
            answer = Explorers(view).decide(slots, rng, f"explorer, before there is a model ({why})")
            if answer.decisions or slots == 0 or usable < 2:
                return answer
        from search.strategies import curve_bo  # importing torch takes seconds

        return curve_bo.decide(view, slots, rng, self.surrogate)
