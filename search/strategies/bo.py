"""``bo``: Bayesian optimisation of fully trained trials, on BoTorch's and Ax's models.

A design comes first: the middle of the space, then a Sobol sequence. Then Gaussian processes are fitted to
the study's metric, to further objectives and to metrics with limits (:mod:`search.surrogates.outcomes`),
once for all free slots, and log noisy expected improvement, of several objectives that of the hypervolume,
picks what to train next among the legal configurations of any space (:mod:`search.strategies.improvement`).
What diverged or ran out of memory makes its neighbourhood less promising.
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

_DESIGN = 6
"""Trials of the design, unless the study says otherwise: the middle of the space, as in Ax, and five of a
Sobol sequence. The prior of the models needs no more, whatever the dimension."""


@dataclass(frozen=True, slots=True)
class BayesianOptimisation:
    """See the module."""

    initial_trials: int
    """Size of the design; configurations that are enqueued or imported count."""
    noise_sd: float | None = None
    """Standard deviation of the noise of the study's metric; None: it is inferred."""

    name: ClassVar[str] = "bo"
    lookahead: ClassVar[bool] = False
    known_options: ClassVar[tuple[Option, ...]] = (
        Option("initial_trials", whole=True, at_least=2),
        Option("noise_sd", at_least=0),
    )
    conditional: ClassVar[bool] = True
    categorical: ClassVar[bool] = True
    outcomes: ClassVar[bool] = True
    forks: ClassVar[bool] = False

    @classmethod
    def create(
        cls, options: Mapping[str, ParamValue], space: SearchSpace, fidelity: Fidelity
    ) -> BayesianOptimisation:
        given = read_options(cls.name, options, cls.known_options)
        design = int(given.get("initial_trials", _DESIGN))
        return cls(design, given.get("noise_sd"))

    def first_target(self, fidelity: Fidelity) -> int:
        return fidelity.max

    def decide(self, view: StudyView, slots: int, rng: np.random.Generator) -> Answer:
        def model(
            known: Knowledge, launches: Sequence[Launch], seen: set[Key], count: int
        ) -> tuple[list[Suggestion], dict[str, Any]]:
            from search.strategies.bo_model import suggest  # importing Ax takes seconds

            pending = [*(t.params for t in known.pending), *(launch.params for launch in launches)]
            return suggest(view, pending, seen, count, self.noise_sd, rng)

        return modelled.decide(view, slots, rng, self.initial_trials, model, centre=True)
