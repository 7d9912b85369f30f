"""The model of ``curve-bo``: Bayesian optimisation of whole learning curves, by freezing and thawing.

A model of all curves (a surrogate, of :mod:`search.surrogates`) predicts where each configuration will end,
trained a little, a lot or not at all. Whenever a slot is free, every move is weighed: each paused trial
trained on for one of several stretches, or one of a thousand new configurations trained for one of several
first stretches. A move's worth is what it may gain, divided by what it costs: steps, times the seconds
that a step is predicted to take, where configurations differ in them (:mod:`search.surrogates.cost`):

- what it may teach: the expected improvement of the configuration's *predicted end* over the best predicted
  end of all others, once the stretch has been seen (the knowledge gradient of one arm; Frazier, Powell,
  Dayanik, 2009). It is the larger, the more the stretch tells about the end;
- what it may bring at once: the expected improvement of the *measurement* at the end of the stretch over
  the best measurement so far;

both times the chance that the configuration trains at all (:mod:`search.surrogates.feasibility`). Among
new configurations what the user believes (:mod:`search.beliefs`) counts, less with every trial (piBO,
Hvarfner et al., 2022).

A model can be wrong about what it has not seen, above all about late learners while it has seen short
curves only. So at least a third of the training is not its to give: it goes to explorers
(:mod:`search.strategies.explorers`), and nine tenths where what the model starts is no better than they
are. They start the study, and the model learns from them, too.

Trials that are under way count as if they had come out as predicted, so that several workers do not all try
the same thing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from search.acquisition import log_expected_improvement
from search.beliefs import log_prior_of, weight
from search.decision import Answer, Continue, Decision, Finish, Launch
from search.sampling import fresh, tried
from search.space import ParamValue
from search.strategies.common import launches_left, why_done
from search.strategies.explorers import Explorers
from search.strategies.moves import near, spread
from search.strategies.telling import Prediction, Teller
from search.surrogates.base import Outlook
from search.surrogates.calibration import Calibration
from search.surrogates.cost import Costs
from search.surrogates.feasibility import log_feasible
from search.surrogates.history import (
    Array,
    LossScale,
    Points,
    Progress,
    best_loss,
    most_telling,
    points_of,
)
from search.surrogates.registry import AUTO, DEFAULT, load
from search.surrogates.selection import choose
from search.table import Table
from search.threads import one_thread
from search.transfer import Informed
from search.view import Fidelity, StudyView

_FIRST_TARGETS = (0.04, 0.08, 0.16)
"""The model's choice for the first stretch of a new trial, as shares of a full training."""
_STRETCHES = (1.5, 3.0, math.inf)
"""Factors by which a trial may be trained on; the last one is: to the end."""
_MODEL_POINTS = 300
_LEAST_SPREAD = 0.3
"""Least standard deviation by which scaled losses are divided for the model, so that noise is not blown up
where nothing differs."""
_HOPELESS = 0.01
"""When no new trial can start, a paused one goes on only with a better chance to become the best."""
_SPREAD, _NEAR, _REFINED = 400, 200, 200
"""New configurations that are weighed: over the space, near the best trials, near the best of those."""
_ELITE = 8
"""The best trials, near which new configurations are looked for."""


@dataclass(frozen=True, slots=True)
class Move:
    """A way to use a slot, and what the model says of it."""

    worth: float
    """Logarithm of the expected gain per step, or per predicted second."""
    target: int
    trial: int | None
    """Place of the trial to go on with, or None for a new one."""
    params: Mapping[str, ParamValue]
    step: int
    prediction: Prediction
    seconds: float | None
    """It is predicted to take; None before any training was timed."""
    forced: str = ""
    """Why it is made whatever its worth."""


def decide(view: StudyView, slots: int, rng: np.random.Generator, surrogate: str = DEFAULT) -> Answer:
    """The moves of greatest worth for up to ``slots`` slots. Two trials must have a finite result.

    ``surrogate`` is the name of one, or "auto". If no model can be had, the explorers go on alone, and the
    diagnostics say so. Raises :class:`~search.errors.SearchError` if the surrogate cannot be loaded.
    """
    with one_thread():
        try:
            found = _Round(view, rng, surrogate)
        except np.linalg.LinAlgError as error:
            answer = Explorers(view).decide(slots, rng, "explorer, since the model of curves failed")
            return replace(answer, diagnostics={**answer.diagnostics, "fit": f"failed: {error}"})
        return found.answer(slots)


def predict(
    view: StudyView,
    untried: Sequence[Mapping[str, ParamValue]],
    rng: np.random.Generator,
    surrogate: str = DEFAULT,
) -> list[Prediction]:
    """What reasons would say of the view's trials, in their order, then of ``untried`` configurations.

    Two trials must have a finite result.
    """
    with one_thread():
        return _Round(view, rng, surrogate).predictions(untried)


def _measured(fidelity: Fidelity, step: float) -> int:
    """The first step at or after ``step`` that is measured."""
    return min(fidelity.max, math.ceil(step / fidelity.report_every - 1e-9) * fidelity.report_every)


def _first_targets(fidelity: Fidelity, levels: Sequence[int]) -> list[int]:
    """To which steps the model may train a new trial first; not the lowest rung, if there are more."""
    if len(levels) == 1:
        return [fidelity.max]
    least = _measured(fidelity, levels[0] + 1)
    return sorted({max(least, _measured(fidelity, share * fidelity.max)) for share in _FIRST_TARGETS})


class _Round:
    """One decision: the model, and the moves it weighs."""

    def __init__(self, view: StudyView, rng: np.random.Generator, surrogate: str) -> None:
        self.view, self.rng, self.units = view, rng, view.budget.fidelity
        self.space, self.fidelity = view.space, view.fidelity
        self.decisions: list[Decision] = []
        self.explorers = Explorers(view)
        self.design = self.explorers.points()
        self.share = self.explorers.share()
        self.first_targets = _first_targets(view.fidelity, self.explorers.levels)
        self.columns = Informed(view)
        self.progress = Progress.of(view.fidelity)
        self.seen = tried(view)
        self.exhausted = view.space.cardinality is not None and len(self.seen) >= view.space.cardinality
        self.features = self.columns.encode([trial.params for trial in view.trials])
        """A row for each trial, then for each launch of this answer."""
        self.costs = Costs.of(view.trials, self.features)
        self.bests = np.array([best_loss(view, trial) for trial in view.trials])
        self.reached = np.array([max(t.step, t.target if t.active else 0) for t in view.trials], dtype=int)
        """How far each trial will be trained, once what is under way has ended."""
        self.exploring = np.array([self.explorers.are(t) for t in view.trials])
        """Which of them are explorers."""
        self.places = {trial.number: place for place, trial in enumerate(view.trials)}
        self.open = [
            i
            for i, t in enumerate(view.trials)
            if t.status == "paused" and t.resumable and t.step < view.fidelity.max and t.values
        ]
        self.scale = LossScale.of(
            self.bests.tolist(), [view.loss(value) for trial in view.trials for value in trial.values]
        )
        every = points_of(view, self.features, self.scale, self.progress)
        chosen = most_telling(every, self.bests, _MODEL_POINTS, rng)
        self.spread = max(float(chosen.values.std()), _LEAST_SPREAD)
        told = Points(chosen.features, chosen.progress, chosen.owner, chosen.values / self.spread)
        self.asked_for = surrogate
        chosen_by = choose(view, self.features, self.explorers.levels) if surrogate == AUTO else None
        self.surrogate = chosen_by.name if chosen_by else surrogate
        self.model = load(self.surrogate)(told, rng)
        self.best = float(self.scale.scale(self.bests.min())) / self.spread
        calibration = Calibration.of(self.model.replays())
        self.begun = np.isin(np.arange(len(view.trials)), told.owner)
        """Of which trials the model knows a curve."""
        self.teller = Teller(
            calibration, self.model.noise, self.scale, self.spread, float(self.bests.min()), view.maximize
        )
        self.diagnostics: dict[str, Any] = {
            "surrogate": self.surrogate,
            **self.model.report(),
            "calibration": calibration.report(),
            "explorers_share": round(self.share, 3),
            "costs": self.costs.report(),
        }
        if chosen_by:
            self.diagnostics["auto"] = chosen_by.report()
        if view.sources:
            ends = self._outlook(list(range(len(view.trials)))).mean
            self.diagnostics["sources"] = self.columns.agreement(self.features, ends)
        under_way = [i for i, trial in enumerate(view.trials) if trial.active and trial.step < trial.target]
        if under_way:
            self._believe(under_way, [view.trials[i].target for i in under_way])

    def predictions(self, untried: Sequence[Mapping[str, ParamValue]]) -> list[Prediction]:
        """See :func:`predict`."""
        trials = self._outlook(list(range(len(self.begun))))
        new = self.model.outlook(self.columns.encode(untried), np.full(len(untried), -1, dtype=np.intp))
        return [
            *self.teller.predictions(trials.mean, trials.sd, self.begun),
            *self.teller.predictions(new.mean, new.sd, np.zeros(len(untried), dtype=np.bool_)),
        ]

    def answer(self, slots: int) -> Answer:
        while len(self.decisions) < slots:
            move = self._best_move()
            if move is None:
                break
            self._make(move)
        if self.decisions or slots == 0 or any(trial.active for trial in self.view.trials):
            return Answer(tuple(self.decisions), self.diagnostics)
        why = why_done(self.view, self.explorers.levels[0], self.exhausted)
        if self.open:
            why += f"; no paused trial has more than {_HOPELESS:.0%} of chance to become the best"
        return Answer((Finish(why),), self.diagnostics)

    def _best_move(self) -> Move | None:
        made = sum(isinstance(decision, Launch) for decision in self.decisions)
        everyone = self._outlook(list(range(len(self.features))))
        left = launches_left(self.view, self.explorers.levels[0], self.units, made)
        may_launch = not self.exhausted and left != 0
        if may_launch and (move := self._explorer(everyone)) is not None:
            return move
        thaw = self._thaw(everyone, may_launch)
        new = self._new(everyone) if may_launch else None
        if new is None or (thaw is not None and thaw.worth >= new.worth):
            return thaw
        return new

    def _outlook(self, places: list[int]) -> Outlook:
        return self.model.outlook(self.features[places], np.array(places, dtype=np.intp))

    def _affordable(self, places: list[int], levels: Array) -> tuple[list[int], Array]:
        """Those of ``places`` that can be taken to their ``levels``, or to what the budget pays for."""
        kept, targets = [], []
        every = self.fidelity.report_every
        for place, level in zip(places, levels.tolist(), strict=True):
            step = self.view.trials[place].step
            target = max(_measured(self.fidelity, level), _measured(self.fidelity, step + 1))
            if self.units is not None and target - step > self.units:
                target = (step + self.units) // every * every
            if target > step:
                kept.append(place)
                targets.append(target)
        return kept, np.array(targets, dtype=np.float64)

    def _explorer(self, everyone: Outlook) -> Move | None:
        """The explorers' next move, if it is their turn."""
        levels = self.explorers.levels
        mine = self.reached[self.exploring].sum()
        if len(levels) == 1 or mine >= self.share * self.reached.sum():
            return None
        for candidate in self.explorers.due():
            place = self.places[candidate.trial]
            cost = candidate.target - self.view.trials[place].step
            if place in self.open and (self.units is None or cost <= self.units):
                return self._continuing(
                    everyone, place, candidate.target, 0.0, f"explorer; {candidate.reason}"
                )
        params = fresh(self.space, self.seen, self.design, self.rng)
        if params is None:
            self.exhausted = True
            return None
        return self._untried(params, levels[0], "explorer; the next point of the Sobol sequence")

    def _untried(self, params: Mapping[str, ParamValue], target: int, why: str) -> Move:
        """The move of starting a configuration that was not weighed."""
        features = self.columns.encode([params])
        outlook = self.model.outlook(features, np.array([-1], dtype=np.intp))
        return self._move(outlook, 0, target, 0.0, params, why)

    def _thaw(self, everyone: Outlook, may_launch: bool) -> Move | None:
        """The best of going on with a paused trial."""
        best: Move | None = None
        order = np.argsort(everyone.mean, kind="stable")
        leader, second = int(order[0]), int(order[min(1, len(order) - 1)])
        for factor in _STRETCHES:
            levels = np.array([self.view.trials[i].step * factor for i in self.open])
            places, targets = self._affordable(self.open, np.minimum(levels, self.fidelity.max))
            if not may_launch:
                mean, sd = everyone.mean[places], everyone.sd[places]
                hopeful = self.teller.chances(mean, sd, self.begun[places]) > _HOPELESS
                places = [i for i, hope in zip(places, hopeful, strict=True) if hope]
                targets = targets[hopeful]
            if not places:
                continue
            rivals = np.where(np.array(places) == leader, everyone.mean[second], everyone.mean[leader])
            steps = np.array([self.view.trials[i].step for i in places], dtype=np.float64)
            rates = self.costs.log_rate(self.features[places])
            worth = self._worth(self._outlook(places), steps, targets, rivals, rates)
            top = int(np.argmax(worth))
            if best is None or worth[top] > best.worth:
                best = self._continuing(everyone, places[top], int(targets[top]), float(worth[top]))
        return best

    def _new(self, everyone: Outlook) -> Move | None:
        """The best new configuration that is not tried yet."""
        order = np.argsort(everyone.mean, kind="stable")
        rival = float(everyone.mean[order[0]])
        elite = self.space.layout.read([self._params(int(i)) for i in order[:_ELITE]])
        targets = [t for t in self.first_targets if self.units is None or t <= self.units]
        if not targets:
            return None
        pool = Table.concat(
            [
                spread(self.space, _SPREAD, self.rng),
                near(self.space, elite, _NEAR, (0.05, 0.15, 0.4), self.rng),
            ]
        )
        for scales in ((0.03, 0.1, 0.2), (0.01, 0.03, 0.1), ()):
            features = self.columns.encode_table(pool)
            outlook = self.model.outlook(features, np.full(len(pool), -1, dtype=np.intp))
            feasible = log_feasible(
                self.view, self.features[: len(self.view.trials)], self.model.lengths, features
            )
            none, rivals = np.zeros(len(pool)), np.full(len(pool), rival)
            rates = self.costs.log_rate(features)
            worths = np.stack(
                [self._worth(outlook, none, np.full(len(pool), t), rivals, rates) for t in targets]
            )
            worth = worths.max(axis=0) + feasible
            believed = weight(len(self.view.trials)) * log_prior_of(self.space, pool)
            ranked = np.argsort(-(worth + believed), kind="stable")
            if scales:
                pool = pool.take(ranked[:10])
                pool = Table.concat([pool, near(self.space, pool, _REFINED, scales, self.rng)])
        for top in ranked[:50].tolist():
            (params,) = self.space.layout.write(pool.take(slice(top, top + 1)))
            if self.space.key(params) not in self.seen:
                target = targets[int(np.argmax(worths[:, top]))]
                return self._move(outlook, top, target, float(worth[top]), params)
        anywhere = fresh(self.space, self.seen, self.design, self.rng)
        if anywhere is None:
            self.exhausted = True
            return None
        return self._untried(anywhere, targets[0], "what the model would try has been tried")

    def _worth(
        self, outlook: Outlook, steps: Array, targets: Array, rivals: Array, log_rates: Array
    ) -> Array:
        """Logarithm of the expected gain per cost of training to ``targets``; each of shape (m,).

        The cost is in seconds, at ``log_rates``, or in steps where all configurations cost the same.
        """
        mean, sd, shared = outlook.at(self.progress(targets))
        taught = np.abs(shared) / np.sqrt(sd**2 + self.model.noise)
        teaches = log_expected_improvement(outlook.mean, np.maximum(taught, 1e-9), rivals)
        brings = log_expected_improvement(mean, sd, self.best)
        gain = np.logaddexp(teaches, brings)
        if self.costs.same:
            return gain - np.log(targets - steps)
        return gain - self.costs.log_seconds(log_rates, steps, targets)

    def _params(self, place: int) -> Mapping[str, ParamValue]:
        if place < len(self.view.trials):
            return self.view.trials[place].params
        launches = [d for d in self.decisions if isinstance(d, Launch)]
        return launches[place - len(self.view.trials)].params

    def _continuing(
        self, everyone: Outlook, place: int, target: int, worth: float, forced: str = ""
    ) -> Move:
        trial = self.view.trials[place]
        return self._move(everyone, place, target, worth, trial.params, forced, place, trial.step)

    def _move(
        self,
        outlook: Outlook,
        row: int,
        target: int,
        worth: float,
        params: Mapping[str, ParamValue],
        forced: str = "",
        trial: int | None = None,
        step: int = 0,
    ) -> Move:
        begun = np.array([trial is not None and self.begun[trial]])
        at = slice(row, row + 1)
        (prediction,) = self.teller.predictions(outlook.mean[at], outlook.sd[at], begun)
        seconds = None
        if self.costs.known:
            rates = self.costs.log_rate(self.columns.encode([params]))
            (log,) = self.costs.log_seconds(rates, np.array([float(step)]), np.array([float(target)]))
            seconds = math.exp(float(log))
        return Move(worth, target, trial, params, step, prediction, seconds, forced)

    def _make(self, move: Move) -> None:
        """Turn the move into a decision, and let the model believe in its outcome."""
        reason = self._reason(move)
        if self.units is not None:
            self.units -= move.target - move.step
        if move.trial is None:
            launch = Launch(move.params, move.target, reason)
            self.decisions.append(launch)
            self.seen.add(self.space.key(move.params))
            self._launched(launch)
        else:
            self.decisions.append(Continue(self.view.trials[move.trial].number, move.target, reason))
            self.open.remove(move.trial)
            self.reached[move.trial] = move.target
            self._believe([move.trial], [move.target])

    def _launched(self, launch: Launch) -> None:
        self.features = np.concatenate([self.features, self.columns.encode([launch.params])])
        self.reached = np.append(self.reached, launch.target)
        self.exploring = np.append(self.exploring, launch.target == self.explorers.levels[0])
        self._believe([len(self.features) - 1], [launch.target])

    def _believe(self, places: list[int], targets: list[int]) -> None:
        """Condition the model on what it predicts for runs that are under way."""
        at = self.progress(targets)
        mean, _, _ = self._outlook(places).at(at)
        imagined = Points(self.features[places], at, np.array(places, dtype=np.intp), mean)
        self.model = self.model.plus(imagined)

    def _reason(self, move: Move) -> str:
        who = "" if self.asked_for == DEFAULT else f" (by {self.surrogate})"
        words = f"{move.prediction}{who}; {move.target - move.step} {self.fidelity.unit} more"
        if move.seconds is not None:
            words += f", about {move.seconds:.3g} s"
        return f"{move.forced}: {words}" if move.forced else words
