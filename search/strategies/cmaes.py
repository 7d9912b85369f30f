"""``cmaes``: the covariance matrix adaptation evolution strategy, by fully trained trials, on pycma.

Hansen, "The CMA Evolution Strategy: A Tutorial" (2016). A normal distribution over the cube moves, turns
and shrinks as each generation of trials says; its first generation is a Sobol design. What it is told of
failures and of early stops is that of :mod:`search.strategies.knowledge`.

There is no state to keep: the results, in order of their trials, are cut into generations, and the
distribution is led through them again for each decision (0.2 s for 1,000 trials). Workers that finish out
of order, and configurations from people, do no harm: CMA-ES takes in what it did not draw (Hansen,
"Injecting External Solutions Into CMA-ES", 2011). Of a generation only the order of the losses counts.

Optuna's ``CmaEsSampler`` would keep its state in the attributes of trials.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt

from search.decision import Answer, Launch
from search.legal import legal_at
from search.space import Key, ParamValue, SearchSpace
from search.strategies import modelled
from search.strategies.knowledge import Knowledge
from search.strategies.modelled import Suggestion
from search.strategies.options import Option, read_options
from search.view import Fidelity, StudyView

if TYPE_CHECKING:
    from cma import CMAEvolutionStrategy

_START_SD = 0.25
"""Standard deviation of the first generation in each coordinate of the cube, around its centre."""
_LEAST_SD = 0.25
"""The least standard deviation along a finite domain, in cells of one value each: one draw in twenty leaves
the cell at whose middle the mean lies. Otherwise a value is soon given up for good (Hamano et al., "CMA-ES
with Margin", 2022)."""
_REDRAWS = 32
"""Draws for one suggestion before it is given up."""


@dataclass(frozen=True, slots=True)
class CmaEs:
    """See the module."""

    population: int
    """Trials of a generation."""

    name: ClassVar[str] = "cmaes"
    lookahead: ClassVar[bool] = False
    known_options: ClassVar[tuple[Option, ...]] = (Option("population", whole=True, at_least=4),)
    conditional: ClassVar[bool] = False
    categorical: ClassVar[bool] = False
    outcomes: ClassVar[bool] = False
    forks: ClassVar[bool] = False

    @classmethod
    def create(cls, options: Mapping[str, ParamValue], space: SearchSpace, fidelity: Fidelity) -> CmaEs:
        given = read_options(cls.name, options, cls.known_options)
        # Hansen's default, and never fewer than in six dimensions.
        default = 4 + int(3 * math.log(max(6, len(space.dimensions))))
        return cls(int(given.get("population", default)))

    def first_target(self, fidelity: Fidelity) -> int:
        return fidelity.max

    def decide(self, view: StudyView, slots: int, rng: np.random.Generator) -> Answer:
        def model(
            known: Knowledge, launches: Sequence[Launch], seen: set[Key], count: int
        ) -> tuple[list[Suggestion], dict[str, Any]]:
            results = known.by_age()
            strategy = _evolved(
                [view.space.encode(trial.params) for trial, _ in results],
                [loss for _, loss in results],
                [view.space.by_name[name].domain.size for name in view.space.dimensions],
                self.population,
                rng,
            )
            generation = len(results) // self.population
            reason = f"generation {generation + 1}, drawn with step size {strategy.sigma:.2g} of the cube"
            taken = set(seen)
            suggestions: list[Suggestion] = []
            while len(suggestions) < count and (params := _draw(strategy, view.space, taken)) is not None:
                suggestions.append((params, reason))
            return suggestions, {"generation": generation + 1, "step_size": float(strategy.sigma)}

        return modelled.decide(view, slots, rng, self.population, model)


def _evolved(
    points: Sequence[npt.NDArray[np.float64]],
    losses: Sequence[float],
    sizes: Sequence[int | None],
    population: int,
    rng: np.random.Generator,
) -> CMAEvolutionStrategy:
    """CMA-ES after the whole generations among the results; it draws with ``rng``.

    ``points`` lie in the cube, each of shape (dimensions,); ``sizes`` are those of the domains, None: real.
    """
    import cma  # takes a second

    # The package knows no single dimension: the cube gets another, which nothing depends on.
    padding = max(0, 2 - len(sizes))
    at_least = [0.0 if size is None else _LEAST_SD / size for size in sizes]
    dimensions = len(sizes) + padding
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # It warns of flat and of few results; both are in order here.
        strategy = cma.CMAEvolutionStrategy(
            np.full(dimensions, 0.5),
            _START_SD,
            {
                "bounds": [0, 1],
                "popsize": population,
                "minstd": [*at_least, *([0.0] * padding)],
                "CMA_stds": np.ones(dimensions),  # "minstd" needs them written out
                # Rules that need what it drew itself are not for a history that is told again.
                "CMA_mirrors": 0,
                "AdaptSigma": cma.sigma_adaptation.CMAAdaptSigmaCSA,
                # Its randomness is ours, and it neither prints nor reads nor writes files.
                "randn": lambda *shape: rng.standard_normal(shape),
                "seed": math.nan,
                "verbose": -10,
            },
        )
        for start in range(0, len(losses) - population + 1, population):
            told = slice(start, start + population)
            strategy.ask()  # It must be asked before it is told.
            strategy.tell(
                [np.pad(p, (0, padding), constant_values=0.5) for p in points[told]], losses[told]
            )
    return strategy


def _draw(
    strategy: CMAEvolutionStrategy, space: SearchSpace, seen: set[Key]
) -> dict[str, ParamValue] | None:
    """A legal configuration that is not in ``seen``, and is added to it; None if none comes."""
    for _ in range(_REDRAWS):
        (point,) = strategy.ask(1)
        params = legal_at(space, point[: len(space.dimensions)])
        if params is not None and space.key(params) not in seen:
            seen.add(space.key(params))
            return params
    return None
