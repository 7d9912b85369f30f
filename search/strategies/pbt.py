"""``pbt``: population based training.

Jaderberg et al., "Population Based Training of Neural Networks" (2017), asynchronous as there. So many
trials train side by side and pause after every interval. One that is then among the worst of all that came
to its step is stopped, and a fork of one of the best takes its place: it goes on from that trial's
checkpoint (*exploit*) with a configuration near that trial's (*explore*). What is found is a schedule of
hyperparameters rather than one configuration: the line of parents of the best trial.

Trials are compared at the same step, with all that were ever measured there; the best that still have
their checkpoint of that step are forked. The trial that is furthest behind is taken up first, so that
workers fewer than the population compare as many as they can. A trial that ends makes room for a new one
with a configuration of its own, as long as the budget pays for its whole training. Every fork counts as a
trial of the budget: a budget of fidelity suits better.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from search.beliefs import leaning
from search.decision import Answer, Continue, Decision, Finish, Fork, Launch, Stop
from search.legal import legal_at
from search.sampling import fresh, neighbours, sobol_points, tried
from search.space import ParamValue, SearchSpace
from search.strategies.common import why_done
from search.strategies.options import Option, read_options
from search.strategies.rungs import ordinal
from search.view import Fidelity, StudyView, TrialView

_INTERVALS = 10
"""Of a full training, unless the study says how long one is."""
_DRAWS = 32
"""Configurations drawn for a legal one that differs from the parent's."""


@dataclass(frozen=True, slots=True)
class PopulationBasedTraining:
    """See the module."""

    population: int
    interval: int | None
    """Steps between two comparisons; None: a tenth of a full training."""
    quantile: float
    """The share that is replaced, and the share whose trials are forked."""
    perturb: float
    """Standard deviation of a step away from the parent's configuration, as a share of the range."""
    resample: float
    """Chance that a parameter is drawn anew from its whole range instead."""

    name: ClassVar[str] = "pbt"
    lookahead: ClassVar[bool] = False
    known_options: ClassVar[tuple[Option, ...]] = (
        Option("population", whole=True, at_least=2, at_most=1_000),
        Option("interval", whole=True, at_least=1),
        Option("quantile", above=0, at_most=0.5),
        Option("perturb", above=0, at_most=1),
        Option("resample", at_least=0, at_most=1),
    )
    conditional: ClassVar[bool] = True
    categorical: ClassVar[bool] = True
    outcomes: ClassVar[bool] = False
    forks: ClassVar[bool] = True

    @classmethod
    def create(
        cls, options: Mapping[str, ParamValue], space: SearchSpace, fidelity: Fidelity
    ) -> PopulationBasedTraining:
        read = read_options(cls.name, options, cls.known_options)
        return cls(
            population=int(read.get("population", 8)),
            interval=int(read["interval"]) if "interval" in read else None,
            quantile=read.get("quantile", 0.25),
            perturb=read.get("perturb", 0.1),
            resample=read.get("resample", 0.25),
        )

    def first_target(self, fidelity: Fidelity) -> int:
        return self.boundary(fidelity, 0)

    def decide(self, view: StudyView, slots: int, rng: np.random.Generator) -> Answer:
        return _Round(self, view, slots, rng).answer()

    def boundary(self, fidelity: Fidelity, step: int) -> int:
        """The first step behind ``step`` at which trials are compared; there is a measurement."""
        every = fidelity.report_every
        interval = math.ceil((self.interval or fidelity.max / _INTERVALS) / every) * every
        return min(fidelity.max, max(step // interval + 1, math.ceil(fidelity.min / interval)) * interval)


class _Round:
    """One decision."""

    def __init__(
        self, strategy: PopulationBasedTraining, view: StudyView, slots: int, rng: np.random.Generator
    ) -> None:
        self.strategy, self.view, self.slots, self.rng = strategy, view, slots, rng
        self.live = [trial for trial in view.trials if trial.active or _paused(trial)]
        self.trials_left = math.inf if view.budget.trials is None else view.budget.trials
        self.units = math.inf if view.budget.fidelity is None else view.budget.fidelity
        self.decisions: list[Decision] = []
        self.started = 0
        self.exhausted = False

    def answer(self) -> Answer:
        """What is behind first: new trials, then the paused ones, by their steps."""
        self._launch()
        waiting = sorted(filter(_paused, self.live), key=lambda trial: (trial.step, trial.number))
        for trial in waiting:
            if self.started < self.slots:
                self._go_on(trial)
        if not self.decisions and self.slots > 0 and not any(trial.active for trial in self.live):
            self.decisions.append(Finish(self._why_done(waiting)))
        return Answer(tuple(self.decisions), {"population": len(self.live), "waiting": len(waiting)})

    def _launch(self) -> None:
        """New trials, as far as there is room in the population and the whole of their training is paid."""
        fidelity = self.view.fidelity
        first = self.strategy.first_target(fidelity)
        reserved = sum(
            max(0, fidelity.max - (trial.target if trial.active else trial.step)) for trial in self.live
        )
        seen = tried(self.view)
        count = len(self.live)
        points: Iterator[np.ndarray[tuple[int], np.dtype[np.float64]]] | None = None
        while self.started < self.slots and count < self.strategy.population and self.trials_left > 0:
            alone = count == 0 and self.units >= first
            if self.units - reserved < fidelity.max and not alone:
                return
            if points is None:
                place = sum(t.origin == "strategy" and t.parent is None for t in self.view.trials)
                sequence = sobol_points(len(self.view.space.dimensions), place, self.view.seed)
                points = leaning(self.view.space, sequence, place)
            params = fresh(self.view.space, seen, points, self.rng)
            if params is None:
                self.exhausted = True
                return
            count += 1
            self._start(
                Launch(
                    params,
                    first,
                    f"a population of {self.strategy.population} has room: a new configuration, to "
                    f"{first} {fidelity.unit} first",
                ),
                first,
            )
            self.trials_left -= 1
            reserved += fidelity.max - first

    def _go_on(self, trial: TrialView) -> None:
        """Let a paused trial train on, or put a fork of a better one in its place."""
        target = self.strategy.boundary(self.view.fidelity, trial.step)
        if target - trial.step > self.units:
            return
        ranked = self._standings(trial.step)
        place = next((i for i, (_, other) in enumerate(ranked, start=1) if other is trial), None)
        many = int(self.strategy.quantile * len(ranked))
        unit = self.view.fidelity.unit
        if place is None:
            self._continue(trial, target, f"nothing was measured up to {trial.step} {unit}")
            return
        loss = ranked[place - 1][0]
        standing = f"{ordinal(place)} of {len(ranked)} at {trial.step} {unit}"
        if place <= len(ranked) - many and math.isfinite(loss):
            why = f"not among the worst {many}" if many else "too few to compare"
            self._continue(trial, target, f"{standing}, {why}")
            return
        better = [
            (rank, other)
            for rank, (other_loss, other) in enumerate(ranked, start=1)
            if trial.step in other.checkpoints and other_loss < loss
        ]
        best = better[: max(1, many)]
        if not best or self.trials_left < 1:
            why = "no trial is left in the budget for a fork" if best else "no better one can be forked"
            self._continue(trial, target, f"{standing}, but {why}")
            return
        rank, parent = best[int(self.rng.integers(len(best)))]
        params = self._explored(parent)
        source = f"trial {parent.number}, {ordinal(rank)} of {len(ranked)} at {trial.step} {unit}"
        self.decisions.append(Stop(trial.number, f"{standing}: a fork of {source}, takes its place"))
        self._start(
            Fork(
                parent.number,
                trial.step,
                params,
                target,
                f"takes the place of trial {trial.number}, {standing}: a fork of {source}, with "
                f"{_changes(parent.params, params)}",
            ),
            target - trial.step,
        )
        self.trials_left -= 1

    def _continue(self, trial: TrialView, target: int, reason: str) -> None:
        self._start(Continue(trial.number, target, f"{reason}: on to {target}"), target - trial.step)

    def _start(self, decision: Decision, units: int) -> None:
        self.decisions.append(decision)
        self.started += 1
        self.units -= units

    def _standings(self, step: int) -> list[tuple[float, TrialView]]:
        """All trials that trained to ``step`` themselves, with their losses there, best first."""
        found = [
            (self.view.loss(trial.values[bisect_right(trial.steps, step) - 1]), trial)
            for trial in self.view.trials
            if trial.steps and trial.steps[0] <= step <= trial.step
        ]
        return sorted(found, key=lambda standing: (standing[0], standing[1].number))

    def _explored(self, parent: TrialView) -> dict[str, ParamValue]:
        """A legal configuration near the parent's; where none is found, the parent's own.

        Each parameter takes a step or, seldom, is drawn anew; what a fork inherits stays.
        """
        space, strategy = self.view.space, self.strategy
        kept = {name: parent.params[name] for name in self.view.inherited if name in parent.params}
        for near in neighbours(space, parent.params, _DRAWS, self.rng, strategy.perturb):
            anew = self.rng.random(len(space.dimensions))
            redrawn = self.rng.random(len(space.dimensions)) < strategy.resample
            redrawn |= [name not in near for name in space.dimensions]
            held = [name in kept for name in space.dimensions]
            point = np.where(redrawn, anew, space.encode(near))
            found = legal_at(space, np.where(held, space.encode(parent.params), point))
            if found is None:
                continue
            found |= {name: value for name, value in kept.items() if name in found}
            if (
                found != parent.params
                and not space.check(found)
                and all(found.get(name) == parent.params.get(name) for name in self.view.inherited)
            ):
                return found
        return dict(parent.params)

    def _why_done(self, waiting: list[TrialView]) -> str:
        if waiting:
            needed = min(self.strategy.boundary(self.view.fidelity, t.step) - t.step for t in waiting)
            left = f"{self.view.budget.fidelity} {self.view.fidelity.unit} are left of the budget"
            return f"{left}, the next interval needs {needed}"
        return why_done(self.view, self.strategy.first_target(self.view.fidelity), self.exhausted)


def _paused(trial: TrialView) -> bool:
    return trial.status == "paused" and trial.resumable


def _changes(before: Mapping[str, ParamValue], after: Mapping[str, ParamValue]) -> str:
    """What a fork trains with in place of its parent's values."""
    changed = [
        f"{name} {_text(before.get(name))} → {_text(after.get(name))}"
        for name in (*after, *(name for name in before if name not in after))
        if before.get(name) != after.get(name)
    ]
    return ", ".join(changed) or "the same configuration"


def _text(value: ParamValue | None) -> str:
    return "none" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)
