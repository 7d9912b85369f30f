"""``mf-bo``: proxies first, then a model across model sizes too (:mod:`search.strategies.fidelity_bo`)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from search.along import OPTION, Along
from search.beliefs import leaning
from search.decision import Answer, Finish, Launch
from search.errors import Mistake, SearchError
from search.sampling import fresh, sobol_points
from search.space import Key, ParamValue, SearchSpace
from search.strategies.common import launches_left, why_done
from search.strategies.modelled import default_design
from search.strategies.options import Option, read_options
from search.view import Fidelity, StudyView, TrialView


@dataclass(frozen=True, slots=True)
class MultiFidelityBO:
    """See the module."""

    along: Along
    initial_trials: int
    """Size of the Sobol design of proxies; configurations that are enqueued or imported count."""

    name: ClassVar[str] = "mf-bo"
    lookahead: ClassVar[bool] = False
    known_options: ClassVar[tuple[Option, ...]] = (
        Option(OPTION, word=True),
        Option("initial_trials", whole=True, at_least=2),
    )
    conditional: ClassVar[bool] = True
    categorical: ClassVar[bool] = True
    outcomes: ClassVar[bool] = False
    forks: ClassVar[bool] = False

    @classmethod
    def create(
        cls, options: Mapping[str, ParamValue], space: SearchSpace, fidelity: Fidelity
    ) -> MultiFidelityBO:
        mistakes: list[Mistake] = []
        given: dict[str, float] = {}
        try:
            given = read_options(cls.name, options, cls.known_options)
        except SearchError as error:
            mistakes.extend(error.mistakes)
        if OPTION not in options:
            mistakes.append(
                Mistake(
                    "/strategy/options",
                    f"{cls.name} needs the option {OPTION}: the parameter whose highest value counts",
                    f"name it, such as {OPTION}: {next(iter(space.dimensions), 'width')}",
                )
            )
        elif isinstance(options[OPTION], str):
            try:
                along = Along.read(options, space)
            except SearchError as error:
                mistakes.extend(error.mistakes)
        if mistakes:
            raise SearchError(mistakes)
        assert along is not None
        default = default_design(len(space.dimensions) - 1)
        return cls(along, int(given.get("initial_trials", default)))

    def first_target(self, fidelity: Fidelity) -> int:
        return fidelity.max

    def decide(self, view: StudyView, slots: int, rng: np.random.Generator) -> Answer:
        left = launches_left(view, view.fidelity.max, view.budget.fidelity)
        wanted = slots if left is None else min(slots, left)
        finite = sum(_finite(trial) for trial in view.trials)
        tried = {self.along.at_target.key(self._lifted(trial.params)) for trial in view.trials}
        launches: list[Launch] = []
        diagnostics: Mapping[str, object] = {}
        place = sum(trial.origin == "strategy" for trial in view.trials)
        target_space = self.along.at_target
        sequence = sobol_points(len(target_space.dimensions), place, view.seed)
        points = leaning(target_space, sequence, place)
        exhausted = False
        while len(launches) < wanted and not exhausted:
            at = len(tried)
            last = left is not None and left - len(launches) == 1
            if finite >= 2 and (at >= self.initial_trials or last):
                break
            params = fresh(target_space, tried, points, rng)
            exhausted = params is None
            if params is not None:
                launches.append(self._designed(view, params, at, finite, last))
        missing = wanted - len(launches)
        if missing > 0 and finite >= 2:
            from search.strategies import fidelity_bo  # importing torch takes seconds

            more, diagnostics = fidelity_bo.launches(view, self.along, launches, missing, left, rng)
            launches.extend(more)
            exhausted = len(more) < missing
        elif exhausted:
            # Too little is known for a model, and each configuration has been a proxy: now at the target.
            launches.extend(self._rest(view, launches, missing))
        if launches or slots == 0 or any(trial.active for trial in view.trials):
            return Answer(tuple(launches), diagnostics)
        why = why_done(view, view.fidelity.max, left != 0)
        if left != 0:
            why = f"{self._all()} been tried at {self.along.name} {self.along.target}"
        return Answer((Finish(why),), diagnostics)

    def _lifted(self, params: Mapping[str, ParamValue]) -> dict[str, ParamValue]:
        return self.along.at(params, self.along.target)

    def _designed(
        self, view: StudyView, params: Mapping[str, ParamValue], at: int, finite: int, last: bool
    ) -> Launch:
        """A point of the design, at the lowest value of the parameter that is legal with it."""
        levels = (self.along.target,) if last else self.along.levels
        level = next(v for v in levels if not view.space.check(self.along.at(params, v)))
        where = f"at {self.along.name} {level}"
        why = f"Sobol design, {at + 1} of {self.initial_trials}, {where}"
        if last:
            why = f"Sobol point {where}, which counts: nothing more can be paid for"
        elif at >= self.initial_trials:
            why = f"Sobol design goes on {where}: {finite} finite results are too few for a model"
        return Launch(self.along.at(params, level), view.fidelity.max, why)

    def _rest(self, view: StudyView, launches: list[Launch], count: int) -> list[Launch]:
        """At most ``count`` known configurations that were not launched at the target."""
        seen: set[Key] = {view.space.key(trial.params) for trial in view.trials}
        seen |= {view.space.key(launch.params) for launch in launches}
        found: list[Launch] = []
        for trial in view.trials:
            params = self._lifted(trial.params)
            if len(found) < count and view.space.key(params) not in seen and not view.space.check(params):
                seen.add(view.space.key(params))
                reason = f"trial {trial.number} at {self.along.name} {self.along.target}, which counts"
                found.append(Launch(params, view.fidelity.max, reason))
        return found

    def _all(self) -> str:
        count = self.along.at_target.cardinality
        if count is None:
            return "every configuration that the constraints leave has"
        return "the only configuration has" if count == 1 else f"all {count} configurations have"


def _finite(trial: TrialView) -> bool:
    return not trial.active and any(math.isfinite(value) for value in trial.values)
