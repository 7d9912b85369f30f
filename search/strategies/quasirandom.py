"""Strategies that do not look at results: ``sobol`` and ``random``. Every trial is trained to the end."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import ClassVar, Self

import numpy as np
import numpy.typing as npt

from search.beliefs import leaning
from search.decision import Answer, Launch
from search.sampling import fresh, sobol_points, tried, uniform_points
from search.space import ParamValue, SearchSpace
from search.strategies.common import launches_left, wait_or_finish
from search.strategies.options import Option, read_options
from search.view import Fidelity, StudyView


class _Drawn:
    """What both have in common: trials drawn one after the other, each trained to the end."""

    name: ClassVar[str]
    lookahead: ClassVar[bool] = True
    known_options: ClassVar[tuple[Option, ...]] = ()
    conditional: ClassVar[bool] = True
    categorical: ClassVar[bool] = True
    outcomes: ClassVar[bool] = True
    forks: ClassVar[bool] = False

    @classmethod
    def create(cls, options: Mapping[str, ParamValue], space: SearchSpace, fidelity: Fidelity) -> Self:
        read_options(cls.name, options, cls.known_options)
        return cls()

    def first_target(self, fidelity: Fidelity) -> int:
        return fidelity.max


class Sobol(_Drawn):
    """A scrambled Sobol sequence: random, but more even (Owen, "Randomly permuted (t,m,s)-nets", 1995).

    The study's seed scrambles it, and the number of trials the strategy has made is the place in it, so
    that it goes on where it stopped. Points that decode to a configuration already tried are skipped.
    """

    name = "sobol"

    def decide(self, view: StudyView, slots: int, rng: np.random.Generator) -> Answer:
        place = _place(view)
        sequence = sobol_points(len(view.space.dimensions), place, view.seed)
        points = leaning(view.space, sequence, place)
        return _launch(view, slots, rng, points, "point {} of the Sobol sequence")


class Random(_Drawn):
    """Uniform at random over the space (on the log scale where a parameter has one)."""

    name = "random"

    def decide(self, view: StudyView, slots: int, rng: np.random.Generator) -> Answer:
        uniform = uniform_points(len(view.space.dimensions), rng)
        points = leaning(view.space, uniform, _place(view))
        return _launch(view, slots, rng, points, "random draw {}")


def _place(view: StudyView) -> int:
    """How many trials the strategy has made."""
    return sum(trial.origin == "strategy" for trial in view.trials)


def _launch(
    view: StudyView,
    slots: int,
    rng: np.random.Generator,
    points: Iterator[npt.NDArray[np.float64]],
    words: str,
) -> Answer:
    target, place = view.fidelity.max, _place(view)
    left = launches_left(view, target, view.budget.fidelity)
    wanted = slots if left is None else min(slots, left)
    seen = tried(view)
    launches: list[Launch] = []
    exhausted = False
    while len(launches) < wanted and not exhausted:
        params = fresh(view.space, seen, points, rng)
        if params is None:
            exhausted = True
        else:
            launches.append(Launch(params, target, words.format(place + len(launches) + 1)))
    if launches or (left != 0 and not exhausted):
        return Answer(tuple(launches))
    return wait_or_finish(view, target, exhausted)
