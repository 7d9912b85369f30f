"""The course of a strategy that fits a model to fully trained trials.

A Sobol design comes first, then the model is asked; configurations that it leaves open are drawn at random,
so that no worker waits.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from search.beliefs import leaning
from search.decision import Answer, Launch
from search.sampling import fresh, sobol_points, tried, uniform_points
from search.space import Key, ParamValue
from search.strategies.common import launches_left, wait_or_finish
from search.strategies.knowledge import Knowledge
from search.view import StudyView

Suggestion = tuple[Mapping[str, ParamValue], str]
"""A configuration, and why it was chosen."""


class Model(Protocol):
    """What suggests configurations once the design is done."""

    def __call__(
        self, known: Knowledge, launches: Sequence[Launch], seen: set[Key], count: int
    ) -> tuple[list[Suggestion], dict[str, Any]]:
        """At most ``count`` suggestions, and diagnostics of the fit.

        ``launches`` are those of this answer so far: they are pending, too. ``seen`` is what was tried or
        is launched; a suggestion in it is dropped. ``model_failed`` among the diagnostics says why there is
        no model; points of the Sobol sequence are launched instead.
        """
        ...


def decide(
    view: StudyView,
    slots: int,
    rng: np.random.Generator,
    initial_trials: int,
    model: Model,
    centre: bool = False,
) -> Answer:
    """At most ``slots`` launches, each trained to the end.

    ``initial_trials`` is the size of the design; configurations that are enqueued or imported count. With
    ``centre`` it begins in the middle of the space. The model is asked when the design is complete and at
    least two results are finite.
    """
    target = view.fidelity.max
    left = launches_left(view, target, view.budget.fidelity)
    wanted = slots if left is None else min(slots, left)
    known = Knowledge.of(view)
    seen = tried(view)
    launches: list[Launch] = []
    exhausted = view.space.cardinality is not None and len(seen) >= view.space.cardinality

    designed = len(known.losses) + len(known.pending)
    place = sum(trial.origin == "strategy" for trial in view.trials)
    points = leaning(view.space, _design(view, place, centre), place)
    while len(launches) < wanted and not exhausted:
        if designed < initial_trials:
            middle = centre and place == 0 and not launches
            what = "middle of the space" if middle else "Sobol design"
            reason = f"{what}, {designed + 1} of {initial_trials}"
        elif len(known.losses) < 2:
            reason = f"Sobol design goes on: {len(known.losses)} finite results are too few for a model"
        else:
            break
        params = fresh(view.space, seen, points, rng)
        exhausted = params is None
        if params is not None:
            launches.append(Launch(params, target, reason))
            designed += 1

    diagnostics = known.diagnostics()
    missing = wanted - len(launches)
    if missing > 0 and not exhausted:
        modelled, fit = model(known, launches, seen, missing)
        diagnostics |= fit
        failure = fit.get("model_failed")
        if failure:
            others, reason = points, f"Sobol point without a model: {failure}"
        else:
            others = uniform_points(len(view.space.dimensions), rng)
            reason = "the model has nothing untried to offer: drawn at random"
        for choice, why in modelled:
            # What a model calculates may miss a constraint by rounding.
            if view.space.key(choice) not in seen and not view.space.check(choice):
                seen.add(view.space.key(choice))
                launches.append(Launch(choice, target, why))
        # A model may give fewer than asked for, or what is tried: the other slots are not left idle.
        while len(launches) < wanted and not exhausted:
            params = fresh(view.space, seen, others, rng)
            exhausted = params is None
            if params is not None:
                launches.append(Launch(params, target, reason))
    if launches or (left != 0 and not exhausted):
        return Answer(tuple(launches), diagnostics)
    return wait_or_finish(view, target, exhausted)


def _design(view: StudyView, place: int, centre: bool) -> Iterator[npt.NDArray[np.float64]]:
    """Points of the unit cube from number ``place`` on: the Sobol sequence, behind the centre if wanted."""
    width = len(view.space.dimensions)
    if centre and place == 0:
        return chain([np.full(width, 0.5)], sobol_points(width, 0, view.seed))
    return sobol_points(width, place - centre, view.seed)


def default_design(dimensions: int) -> int:
    """The size of the Sobol design unless the study says otherwise."""
    return min(20, max(5, 2 * dimensions))
