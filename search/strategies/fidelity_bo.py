"""The model of ``mf-bo``: Bayesian optimisation across the values of one parameter, such as model size.

The process that ``curve-bo`` has over progress (:mod:`search.surrogates.curve_gp`) is here one over the
parameter: what a configuration comes to at the target, how it gets there from the cheaper values (which
fades out towards the target), what all have in common, and what a configuration has of its own. A trial
is one point, and a configuration that is trained at several values is one curve.

Each launch is the pair of a configuration and a value of the parameter with the largest expected gain per
predicted cost (:mod:`search.surrogates.cost`), over a thousand legal configurations and all values:

- what it may teach: the expected improvement of the configuration's *predicted loss at the target* over the
  best predicted one of all others, once the training has been seen (the knowledge gradient of one arm;
  Frazier, Powell, Dayanik, 2009; for cheaper information sources Poloczek, Wang, Frazier, 2017);
- at the target, what it may bring at once: the expected improvement over the best value measured there;

times the chance that the configuration trains at all. After ADMIRE-BayesOpt (Chen et al., 2025), which so
finds data mixtures for large models from small ones.

What is recommended must have been trained at the target. So when trainings below it have cost as much as
one at the target since the last one there, the configuration of the best predicted loss goes to the target,
or if it was there already, the most promising one; and so does the last one that a budget pays for, and
what is started when the time left (:mod:`search.strategies.time_left`) is not enough for others, too.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from search.acquisition import log_expected_improvement, probability_of_improvement
from search.along import Along
from search.beliefs import log_prior_of, weight
from search.decision import Launch
from search.features import Features
from search.space import Key, ParamValue
from search.strategies.common import percent
from search.strategies.moves import near, spread
from search.strategies.time_left import TimeLeft
from search.surrogates.cost import Costs
from search.surrogates.curve_gp import CurveGP, Outlook, fit
from search.surrogates.feasibility import failed, log_feasible
from search.surrogates.history import Array, Indices, LossScale, Points, best_loss, most_telling
from search.table import Table
from search.threads import one_thread
from search.view import StudyView, TrialView

_MODEL_POINTS = 300
_LEAST_SPREAD = 0.3
"""As for ``curve-bo``."""
_DIVERGED = 3.0
"""The largest scaled loss that a training counts as which its configuration made fail."""
_PLACE_LENGTH = 0.5
"""Length-scale of the parameter for what fails: that small models train says little of the large one."""
_TRAINS = 0.7
"""Least chance to train at the target of what is recommended."""
_PATIENCE = 1.0
"""What may be spent below the target after each training there, in trainings at the target."""
_SPREAD, _NEAR, _REFINED = 400, 200, 200
"""Configurations that are weighed: over the space, near the best, near those of the greatest worth."""
_ELITE = 8


def launches(
    view: StudyView,
    along: Along,
    made: Sequence[Launch],
    count: int,
    left: int | None,
    time: TimeLeft,
    rng: np.random.Generator,
) -> tuple[list[Launch], dict[str, Any]]:
    """At most ``count`` launches beside those ``made``, and diagnostics of the fit.

    ``left`` is how many trials can still be paid for, those made counted (None: no limit). Two trials must
    have a finite result. There are fewer launches than ``count`` only if every configuration has been tried
    at the target.
    """
    with one_thread():
        study = _Round(view, along, made, time, rng)
        found: list[Launch] = []
        while len(found) < count:
            last = left is not None and left - len(made) - len(found) == 1
            choice = study.choose(last)
            if choice is None:
                break
            found.append(study.launch(choice))
        return found, study.diagnostics


@dataclass(frozen=True, slots=True)
class _Choice:
    """A configuration at a value of the parameter, and what the model says of it."""

    params: Mapping[str, ParamValue]
    value: ParamValue
    mean: float
    """Of the scaled loss at the target, as ``sd``."""
    sd: float
    forced: str = ""
    """Why it goes to the target whatever its worth."""


@dataclass(frozen=True, slots=True)
class _Pool:
    """Configurations that are weighed, at the target."""

    table: Table
    features: Array
    owners: Indices
    """Place of each among the known configurations; -1 for a new one."""

    def take(self, rows: Indices) -> _Pool:
        return _Pool(self.table.take(rows), self.features[rows], self.owners[rows])


class _Round:
    """One decision: the model, and what it weighs."""

    def __init__(
        self,
        view: StudyView,
        along: Along,
        made: Sequence[Launch],
        time: TimeLeft,
        rng: np.random.Generator,
    ) -> None:
        self.view, self.along, self.time, self.rng = view, along, time, rng
        self.made = [launch.params for launch in made]
        self.space = along.at_target
        self.columns = Features.of(self.space)
        started = [trial.params for trial in view.trials] + [launch.params for launch in made]
        self.seen: set[Key] = {view.space.key(params) for params in started}
        self.known: dict[Key, int] = {}
        """Places of the configurations, whatever the value of the parameter."""
        self.params: list[Mapping[str, ParamValue]] = []
        self.owners = [self._owner(params) for params in started]
        """Of each trial, then of each launch."""
        self.features = self.columns.encode(self.params)
        trials = view.trials
        self.progress = np.array([along.progress(params[along.name]) for params in started])
        self.trained = _with_place(self.features[self.owners[: len(trials)]], self.progress[: len(trials)])
        """Of each trial, the parameter among them: what costs and failures depend on."""
        expected = np.log([along.expected_cost(trial.params[along.name]) for trial in trials])
        self.costs = Costs.of(trials, self.trained, expected)
        losses = np.array([best_loss(view, t) for t in trials])
        told = [i for i, t in enumerate(trials) if not (t.active or failed(t)) and math.isfinite(losses[i])]
        self.slope = _trend(self.progress[told], losses[told])
        rest = self._rest(losses[told], self.progress[told])
        self.scale = LossScale.of(rest.tolist(), rest.tolist())
        broken = [i for i, t in enumerate(trials) if failed(t)]
        values = self.scale.scale(rest)
        worst = min(float(values.max(initial=1.0)), _DIVERGED)
        points = self._points([*told, *broken], np.append(values, np.full(len(broken), worst)))
        self.spread = max(float(points.values.std()), _LEAST_SPREAD)
        points = Points(points.features, points.progress, points.owner, points.values / self.spread)
        self.hyperparameters = fit(points, rng)
        self.model = CurveGP(points, self.hyperparameters)
        self.best: tuple[float, TrialView] | None = min(
            ((losses[i], trials[i]) for i in told if along.counts(trials[i].params)),
            key=lambda found: found[0],
            default=None,
        )
        """The best measured at the target, its loss first."""
        self.since = self._spent([*[t.params for t in trials], *(launch.params for launch in made)])
        self.diagnostics: dict[str, Any] = {
            **self.model.report(),
            "costs": self.costs.report(),
            "target": along.target,
            "levels": {str(v): sum(p[along.name] == v for p in started) for v in along.levels},
            "spent_below_target": round(self.since, 3),
        }
        pending = [i for i, t in enumerate(trials) if t.active] + list(range(len(trials), len(started)))
        if pending:
            self._believe([self.owners[i] for i in pending], self.progress[pending])

    def _owner(self, params: Mapping[str, ParamValue]) -> int:
        lifted = self.along.at(params, self.along.target)
        place = self.known.setdefault(self.space.key(lifted), len(self.params))
        if place == len(self.params):
            self.params.append(lifted)
        return place

    def _points(self, told: Sequence[int], values: Array) -> Points:
        """What there is to learn from, configuration by configuration; ``values`` are those of ``told``."""
        owner = np.array([self.owners[i] for i in told], dtype=np.intp)
        at = self.progress[list(told)]
        order = np.lexsort((at, owner))
        every = Points(self.features[owner], at, owner, values).take(order)
        best = np.full(len(self.params), np.inf)
        np.minimum.at(best, owner, values)
        return most_telling(every, best, _MODEL_POINTS, self.rng)

    def _rest(self, losses: Array, progress: Array) -> Array:
        """Losses less what the value of the parameter alone explains, roughly; as at the target."""
        return np.clip(losses, -1e300, 1e300) + self.slope * (1 - progress)

    def _scaled(self, loss: float) -> float:
        """A loss at the target as the model knows it."""
        return float(self.scale.scale(np.array([loss]))[0]) / self.spread

    def _log_costs(self, features: Array, value: ParamValue) -> Array:
        """Logarithm of seconds per unit of training at a value, or of its share of one at the target."""
        placed = _with_place(features, self.along.progress(value))
        return self.costs.log_rate(placed) + math.log(self.along.expected_cost(value))

    def _spent(self, started: Sequence[Mapping[str, ParamValue]]) -> float:
        """What trainings since the last one at the target cost, in trainings at the target."""
        spent = 0.0
        for params, owner in zip(reversed(started), reversed(self.owners), strict=True):
            if self.along.counts(params):
                break
            spent += self._share(owner, params[self.along.name])
        return spent

    def _share(self, owner: int, value: ParamValue) -> float:
        """The cost of a training as a share of the same configuration's at the target."""
        own = self.features[owner : owner + 1]
        difference = self._log_costs(own, value) - self._log_costs(own, self.along.target)
        return min(1.0, math.exp(float(difference[0])))

    def _outlook(self, features: Array, owners: Indices) -> Outlook:
        return self.model.outlook(features, owners)

    def _everyone(self) -> Outlook:
        return self._outlook(self.features, np.arange(len(self.params), dtype=np.intp))

    def choose(self, last: bool) -> _Choice | None:
        """What to launch next; None if all has been tried at the target."""
        everyone = self._everyone()
        order = np.argsort(everyone.mean, kind="stable").tolist()
        target = self.along.target
        forced = ""
        if last:
            forced = "the last that the budget pays for"
        elif self.since >= _PATIENCE:
            forced = "it is time for one that counts"
        values = [v for v in self.along.levels if v == target or self.time.pays_for(v, self.made)]
        if not forced and values == [target]:
            forced = "the time left is kept for those that count"
        if forced:
            # Where others like it have failed at the target, the best of the proxies is not recommended.
            trains = self._log_feasible(self.features, 1.0) > math.log(_TRAINS)
            first = next((place for place in order if trains[place]), order[0])
            if trains[first] and self._open(self.params[first], target):
                mean, sd = float(everyone.mean[first]), float(everyone.sd[first])
                return _Choice(self.params[first], target, mean, sd, f"{forced}, the best predicted")
        pool = self._pool(order)
        if forced:
            values = [target]
        for scales in ((0.03, 0.1, 0.2), (0.01, 0.03, 0.1), ()):
            outlook = self._outlook(pool.features, pool.owners)
            worths = self._worths(pool, outlook, everyone, values)
            believed = weight(len(self.view.trials)) * log_prior_of(self.space, pool.table)
            worth = worths.max(axis=0) + believed
            ranked = np.argsort(-worth, kind="stable")
            if scales:
                kept = pool.take(ranked[:10])
                fresh = near(self.space, kept.table, _REFINED, scales, self.rng)
                pool = self._joined(kept, fresh)
        for top in ranked.tolist():
            (params,) = self.space.layout.write(pool.table.take(slice(top, top + 1)))
            for place in np.argsort(-worths[:, top], kind="stable").tolist():
                value = values[place]
                if worths[place, top] > -np.inf and self._open(params, value):
                    mean, sd = float(outlook.mean[top]), float(outlook.sd[top])
                    return _Choice(
                        params, value, mean, sd, f"{forced}, the most promising" if forced else ""
                    )
        return None

    def _log_feasible(self, features: Array, progress: float) -> Array:
        """Logarithm of the chance that each trains at a value of the parameter, shape (m,)."""
        lengths = np.append(self.hyperparameters.lengths, _PLACE_LENGTH)
        return log_feasible(self.view, self.trained, lengths, _with_place(features, progress))

    def _open(self, params: Mapping[str, ParamValue], value: ParamValue) -> bool:
        """Whether the configuration is legal at a value, and was not tried there."""
        moved = self.along.at(params, value)
        return self.view.space.key(moved) not in self.seen and not self.view.space.check(moved)

    def _pool(self, order: Sequence[int]) -> _Pool:
        """The known configurations, those near the best of them, and others over the space."""
        own = self.space.layout.read(self.params)
        legal = np.array([not self.space.check(params) for params in self.params])
        known = _Pool(own, self.features, np.arange(len(self.params), dtype=np.intp)).take(
            np.flatnonzero(legal)
        )
        elite = own.take(np.array([i for i in order if legal[i]][:_ELITE], dtype=np.intp))
        others = [
            spread(self.space, _SPREAD, self.rng),
            near(self.space, elite, _NEAR, (0.05, 0.15, 0.4), self.rng),
        ]
        return self._joined(known, Table.concat(others))

    def _joined(self, pool: _Pool, fresh: Table) -> _Pool:
        """With configurations that were drawn; those that are known are in the pool as such."""
        keys = [self.space.key(params) for params in self.space.layout.write(fresh)]
        owners = np.array([self.known.get(key, -1) for key in keys], dtype=np.intp)
        return _Pool(
            Table.concat([pool.table, fresh]),
            np.concatenate([pool.features, self.columns.encode_table(fresh)]),
            np.concatenate([pool.owners, owners]),
        )

    def _worths(
        self, pool: _Pool, outlook: Outlook, everyone: Outlook, values: Sequence[ParamValue]
    ) -> Array:
        """Logarithm of the expected gain per cost, shape (values, pool); -inf where illegal or tried."""
        order = np.argsort(everyone.mean, kind="stable")
        leader, second = order[0], order[min(1, len(order) - 1)]
        rivals = np.where(pool.owners == leader, everyone.mean[second], everyone.mean[leader])
        reached = np.full(len(self.params) + 1, -1.0)  # the last place is for what is new
        np.maximum.at(reached, self.owners, self.progress)
        worths = np.full((len(values), len(pool.features)), -np.inf)
        for row, value in enumerate(values):
            at = self.along.progress(value)
            may = self.along.legal_at(pool.table, value) & (at > reached[pool.owners])
            mean, sd, shared = outlook.at(np.full(len(pool.features), at))
            taught = np.maximum(np.abs(shared) / np.sqrt(sd**2 + self.model.noise), 1e-9)
            worth = log_expected_improvement(outlook.mean, taught, rivals)
            if value == self.along.target and self.best is not None:
                bar = self._scaled(self.best[0])
                worth = np.logaddexp(worth, log_expected_improvement(mean, sd, bar))
            worth = worth + self._log_feasible(pool.features, at)
            worths[row] = np.where(may, worth - self._log_costs(pool.features, value), -np.inf)
        return worths

    def launch(self, choice: _Choice) -> Launch:
        """The choice as a decision; the model believes in its outcome from now on."""
        params = self.along.at(choice.params, choice.value)
        owner = self._owner(params)
        if len(self.params) > len(self.features):
            self.features = np.concatenate([self.features, self.columns.encode([choice.params])])
        reason = self._reason(choice, owner)
        at = self.along.progress(choice.value)
        self.made.append(params)
        self.seen.add(self.view.space.key(params))
        self.owners.append(owner)
        self.progress = np.append(self.progress, at)
        self.since = 0.0 if self.along.counts(params) else self.since + self._share(owner, choice.value)
        self._believe([owner], np.array([at]))
        return Launch(params, self.view.fidelity.max, reason)

    def _believe(self, owners: list[int], progress: Array) -> None:
        """Condition the model on what it predicts for trainings that are under way."""
        places = np.array(owners, dtype=np.intp)
        mean, _, _ = self._outlook(self.features[places], places).at(progress)
        imagined = Points(self.features[places], progress, places, mean)
        self.model = CurveGP(self.model.points.plus(imagined), self.hyperparameters)

    def _reason(self, choice: _Choice, owner: int) -> str:
        sign = -1.0 if self.view.maximize else 1.0
        low, mid, high = (
            sign * self.scale.loss(self.spread * (choice.mean + k * choice.sd))
            for k in (-1.645, 0.0, 1.645)
        )
        low, high = sorted((low, high))
        name, target = self.along.name, self.along.target
        words = f"predicted at {name} {target}: {mid:.4g} (90 %: {low:.4g} to {high:.4g})"
        if self.best is not None:
            mean, sd = np.array([choice.mean]), np.array([choice.sd])
            chance = float(probability_of_improvement(mean, sd, self._scaled(self.best[0]))[0])
            words += f", {percent(chance)} chance to beat the best there, {sign * self.best[0]:.4g}"
        words += f"; trained at {name} {choice.value}"
        own = self.features[owner : owner + 1]
        if self.costs.known:
            seconds = self.view.fidelity.max * math.exp(float(self._log_costs(own, choice.value)[0]))
            words += f", about {seconds:.3g} s"
        if not self.along.counts(self.along.at(choice.params, choice.value)):
            words += f", {self._share(owner, choice.value):.2g} of the cost at {target}"
        return f"{choice.forced}: {words}" if choice.forced else words


def _with_place(features: Array, progress: Array | float) -> Array:
    """Features with a column for the parameter."""
    return np.column_stack([features, np.broadcast_to(progress, len(features))])


def _trend(progress: Array, losses: Array) -> float:
    """How losses change from the lowest value of the parameter to the target: the median slope of all pairs
    (Theil, Sen, 1968).

    It only has to bring losses at all values to one scale; what it leaves is the model's.
    """
    first, second = np.triu_indices(len(losses), 1)
    apart = progress[second] - progress[first]
    differ = apart != 0
    if not differ.any():
        return 0.0
    rise = np.clip(losses[second], -1e150, 1e150) - np.clip(losses[first], -1e150, 1e150)
    return float(np.median(rise[differ] / apart[differ]))
