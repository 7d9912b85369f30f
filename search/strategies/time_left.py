"""How a budget of time is spent along a parameter: in time, on trainings at the target, which alone count.

A training below the target is started only if there is time for one at the target after it, by what
trainings are predicted to take (:mod:`search.surrogates.cost`). Predictions of what was never timed are
rough. So until a first training at the target is started, no more is spent below it than is left: that is
half of the budget at most, however wrong they are. What is under way at the target when time runs out
counts with what it has measured.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from search.along import Along
from search.features import Features
from search.space import ParamValue
from search.surrogates.cost import Costs
from search.surrogates.history import Array
from search.view import StudyView

_SPARE = 1.25
"""A training at the target is given so many times the seconds that it is predicted to take."""

Params = Mapping[str, ParamValue]


class TimeLeft:
    """What is left of a study's budgets of time, if it has any, and what that pays for."""

    def __init__(self, view: StudyView, along: Along) -> None:
        self.view, self.along = view, along
        self.limited = view.budget.seconds is not None or view.budget.clock is not None
        if not self.limited:
            return
        self.columns = Features.of(along.at_target)
        tried = [trial.params for trial in view.trials]
        self.costs = Costs.of(view.trials, self._placed(tried), self._expected(tried))

    def pays_for(self, value: ParamValue, made: Sequence[Params]) -> bool:
        """Whether there is time for a training at ``value`` of the parameter and one at the target behind.

        ``made`` are the configurations that this decision starts already. True where nothing is known: no
        budget of time, or no training timed.
        """
        if not self.limited or not self.costs.known:
            return True
        left, clock = self.view.budget.seconds, self.view.budget.clock
        trials = self.view.trials
        known = [trial.params for trial in trials]
        if not any(self.along.counts(params) for params in (*known, *made)):
            spent = sum(trial.seconds for trial in trials)
            if left is not None and left < spent:
                return False
            if clock is not None and clock * self.view.parallelism < spent:
                return False
        needed = self._typical(known, value) + _SPARE * self._typical(known, self.along.target)
        if clock is not None and clock < needed:
            return False
        if left is None:
            return True
        active = [trial for trial in trials if trial.active]
        whole = self._seconds([*(trial.params for trial in active), *made])
        passed = np.array([*(trial.seconds for trial in active), *(0.0 for _ in made)])
        promised = float(np.maximum(whole - passed, 0.0).sum())
        return left - promised >= needed

    def _typical(self, configurations: Sequence[Params], value: ParamValue) -> float:
        """Median seconds of a training of these configurations at a value."""
        moved = [self.along.at(params, value) for params in configurations]
        return float(np.median(self._seconds(moved)))

    def _seconds(self, configurations: Sequence[Params]) -> Array:
        """What a training of each takes, whole, shape (n,)."""
        if not configurations:
            return np.zeros(0)
        rates = self.costs.log_rate(self._placed(configurations)) + self._expected(configurations)
        steps, targets = np.zeros(len(rates)), np.full(len(rates), float(self.view.fidelity.max))
        seconds: Array = np.exp(self.costs.log_seconds(rates, steps, targets))
        return seconds

    def _expected(self, configurations: Sequence[Params]) -> Array:
        """Logarithm of what each was expected to cost before any was timed, shape (n,)."""
        name = self.along.name
        return np.array([math.log(self.along.expected_cost(params[name])) for params in configurations])

    def _placed(self, configurations: Sequence[Params]) -> Array:
        """Features of the configurations at the target, and where they lie along the parameter."""
        name, target = self.along.name, self.along.target
        lifted = self.columns.encode([self.along.at(params, target) for params in configurations])
        places = [self.along.progress(params[name]) for params in configurations]
        return np.column_stack([lifted, np.array(places, dtype=np.float64)])
