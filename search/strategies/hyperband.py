"""``hyperband``: asynchronous Hyperband, several brackets of successive halving side by side.

Li et al., "Hyperband: A Novel Bandit-Based Approach to Hyperparameter Optimization" (2018), made
asynchronous as in Li et al. (2020). Bracket 0 starts at the first rung, bracket 1 at the second, ...; the
last one trains to the end at once, which guards against curves whose early part misleads.

A trial's bracket is told by its first target. Hyperband gives every bracket the same budget: the next
launch goes to the bracket for which launches so far, and this one, cost least, where the expected cost of
a launch in a bracket with rungs r_0 < r_1 < ... is r_0 + (r_1 - r_0) / eta + (r_2 - r_1) / eta^2 + ...
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import ClassVar

import numpy as np

from search.beliefs import leaning
from search.decision import Answer, Launch
from search.sampling import fresh, tried, uniform_points
from search.space import ParamValue, SearchSpace
from search.strategies.asha import ETA, climb_or_finish
from search.strategies.common import affordable, launches_left
from search.strategies.options import Option, read_options
from search.strategies.rungs import ladder, populations, promotions, rung_levels
from search.view import Fidelity, StudyView, TrialView


@dataclass(frozen=True, slots=True)
class Hyperband:
    """See the module."""

    eta: float = 3

    name: ClassVar[str] = "hyperband"
    lookahead: ClassVar[bool] = False
    known_options: ClassVar[tuple[Option, ...]] = (ETA,)
    conditional: ClassVar[bool] = True
    categorical: ClassVar[bool] = True
    outcomes: ClassVar[bool] = False
    forks: ClassVar[bool] = False

    @classmethod
    def create(cls, options: Mapping[str, ParamValue], space: SearchSpace, fidelity: Fidelity) -> Hyperband:
        return cls(**read_options(cls.name, options, cls.known_options))

    def first_target(self, fidelity: Fidelity) -> int:
        return rung_levels(fidelity, self.eta)[0]

    def decide(self, view: StudyView, slots: int, rng: np.random.Generator) -> Answer:
        seen = tried(view)
        points = leaning(view.space, uniform_points(len(view.space.dimensions), rng), len(view.trials))

        def draw() -> Drawn | None:
            params = fresh(view.space, seen, points, rng)
            return None if params is None else (params, "a new configuration")

        return decide(view, slots, self.eta, draw)


Drawn = tuple[Mapping[str, ParamValue], str]
"""A configuration that was not tried yet, and what it is in words."""


def decide(view: StudyView, slots: int, eta: float, draw: Callable[[], Drawn | None]) -> Answer:
    """What Hyperband does. ``draw`` gives the configuration of the next launch, which is made at once; None
    if every configuration was tried."""
    levels = rung_levels(view.fidelity, eta)
    brackets = range(len(levels))
    home = {trial.number: bracket_of(trial, levels) for trial in view.trials}
    ladders = [
        ladder(view, [t for t in view.trials if home[t.number] in (b, None)], levels[b:]) for b in brackets
    ]
    diagnostics = {
        "brackets": [
            {"first_rung": levels[b], "rungs": populations(view, ladders[b], levels[b:])} for b in brackets
        ]
    }
    due = chain.from_iterable(promotions(ladders[b], levels[b:], eta, view.fidelity.unit) for b in brackets)
    going_on, units = affordable(view, due, slots, view.budget.fidelity)

    started = [sum(bracket == b for bracket in home.values()) for b in brackets]
    launches: list[Launch] = []
    exhausted = False
    while len(going_on) + len(launches) < slots and not exhausted:
        paid = [b for b in brackets if launches_left(view, levels[b], units, len(launches)) != 0]
        if not paid:
            break
        drawn = draw()
        if drawn is None:
            exhausted = True
            break
        params, words = drawn
        bracket = next_bracket(levels, eta, started, paid)
        started[bracket] += 1
        units = None if units is None else units - levels[bracket]
        launches.append(
            Launch(
                params,
                levels[bracket],
                f"bracket {bracket + 1} of {len(levels)} is behind in its share of the budget: "
                f"{words}, to {levels[bracket]} {view.fidelity.unit} first",
            )
        )
    if going_on or launches or slots == 0:
        return Answer((*going_on, *launches), diagnostics)
    return climb_or_finish(view, levels, slots, exhausted, diagnostics)


def bracket_of(trial: TrialView, levels: Sequence[int]) -> int | None:
    """The bracket that a trial was started in; None if it counts in all.

    What was imported, or enqueued to be trained to the end, has passed the rungs of every bracket and
    was chosen by none.
    """
    if trial.origin == "imported" or (trial.origin == "enqueued" and trial.first_target >= levels[-1]):
        return None
    return max((b for b, level in enumerate(levels) if level <= trial.first_target), default=0)


def launch_cost(levels: Sequence[int], eta: float, bracket: int) -> float:
    """The units that a launch in a bracket leads to, promotions included, in expectation."""
    rungs = levels[bracket:]
    return rungs[0] + sum(
        (rungs[k] - rungs[k - 1]) / eta**k  # a share of eta^-k of the launches comes to rung k
        for k in range(1, len(rungs))
    )


def next_bracket(levels: Sequence[int], eta: float, started: Sequence[int], among: Sequence[int]) -> int:
    """The bracket whose launches, with one more, have cost least; the cheaper one among equals."""
    return min(among, key=lambda b: ((started[b] + 1) * launch_cost(levels, eta, b), b))
