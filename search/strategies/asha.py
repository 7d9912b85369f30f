"""``asha``: asynchronous successive halving of the promotion type.

Li et al., "A System for Massively Parallel Hyperparameter Tuning" (2020). Every trial is trained to the
first rung and pauses; whenever a worker is free, the best paused trial of the highest rung that is among
its rung's best ``1/eta`` goes on from its checkpoint; if there is none, a new configuration starts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from search.beliefs import leaning
from search.decision import Answer, Launch
from search.sampling import fresh, tried, uniform_points
from search.space import ParamValue, SearchSpace
from search.strategies.common import affordable, launches_left, wait_or_finish
from search.strategies.options import Option, read_options
from search.strategies.rungs import ladder, last_climb, populations, promotions, rung_levels, share
from search.view import Fidelity, StudyView, TrialView

ETA = Option("eta", at_least=1.1, at_most=1_000)


@dataclass(frozen=True, slots=True)
class Asha:
    """See the module."""

    eta: float = 3

    name: ClassVar[str] = "asha"
    lookahead: ClassVar[bool] = False
    known_options: ClassVar[tuple[Option, ...]] = (ETA,)
    conditional: ClassVar[bool] = True
    categorical: ClassVar[bool] = True
    outcomes: ClassVar[bool] = False
    forks: ClassVar[bool] = False

    @classmethod
    def create(cls, options: Mapping[str, ParamValue], space: SearchSpace, fidelity: Fidelity) -> Asha:
        return cls(**read_options(cls.name, options, cls.known_options))

    def first_target(self, fidelity: Fidelity) -> int:
        return rung_levels(fidelity, self.eta)[0]

    def decide(self, view: StudyView, slots: int, rng: np.random.Generator) -> Answer:
        levels = rung_levels(view.fidelity, self.eta)
        reason = (
            f"no paused trial is due in the best {share(self.eta)} of its rung: "
            f"a new configuration, to {levels[0]} {view.fidelity.unit} first"
        )
        points = leaning(view.space, uniform_points(len(view.space.dimensions), rng), len(view.trials))
        return halve(view, view.trials, levels, self.eta, slots, points, rng, reason)


def halve(
    view: StudyView,
    trials: Sequence[TrialView],
    levels: tuple[int, ...],
    eta: float,
    slots: int,
    points: Iterator[npt.NDArray[np.float64]],
    rng: np.random.Generator,
    reason: str,
) -> Answer:
    """Promotions among ``trials``, then new configurations from ``points`` (of the cube) for ``reason``."""
    rungs = ladder(view, trials, levels)
    diagnostics = {"rungs": populations(view, rungs, levels)}
    due = promotions(rungs, levels, eta, view.fidelity.unit)
    going_on, units = affordable(view, due, slots, view.budget.fidelity)
    seen = tried(view)
    left = launches_left(view, levels[0], units)
    wanted = slots - len(going_on)
    launches: list[Launch] = []
    exhausted = False
    while len(launches) < (wanted if left is None else min(wanted, left)) and not exhausted:
        params = fresh(view.space, seen, points, rng)
        if params is None:
            exhausted = True
        else:
            launches.append(Launch(params, levels[0], reason))
    if going_on or launches or slots == 0:
        return Answer((*going_on, *launches), diagnostics)
    return climb_or_finish(view, levels, slots, exhausted, diagnostics)


def climb_or_finish(
    view: StudyView, levels: tuple[int, ...], slots: int, exhausted: bool, diagnostics: dict[str, Any]
) -> Answer:
    """What to do when no trial is due and no new one can start: wait, train the best on, or finish."""
    answer = wait_or_finish(view, levels[0], exhausted)
    if not answer.decisions:
        return Answer((), diagnostics)
    climbing, _ = affordable(view, last_climb(view, levels), 1, view.budget.fidelity)
    return Answer(tuple(climbing) or answer.decisions, diagnostics)
