"""The surrogate ``ensemble``: randomised trees, each of which draws a whole future for every configuration.

Two kinds of trees are grown (extremely randomised: Geurts, Ernst, Wehenkel, 2006), on curves drawn with
replacement:

- for configurations without a curve: (features, progress) -> value;
- for those with one: (features, how far it has come, the value there, the slope of its last stretch,
  progress) -> value there less the newest value. Every pair of points of a curve is an example.

Trees are grown until nothing is left to part, so what one answers is the value of one example of its own
curves, and the answers of all are a sample of what may be (Meinshausen, "Quantile Regression Forests",
2006). Means, deviations and covariances are theirs. How far the deviations can be believed is measured on
the curves that a tree did not have, and they are widened or narrowed by that.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from sklearn.tree import ExtraTreeRegressor

from search.surrogates.calibration import Replays
from search.surrogates.history import Array, Indices, Points
from search.surrogates.kernels import fit_quality

_TREES = 40
_LENGTH = 2.0
"""Of each feature, since trees have none: as the prior of ``gp``."""
_LEAST_NOISE = 0.03
"""Standard deviation."""
_WIDENED = (0.7, 2.0)
"""Bounds of the factor on deviations."""
_LEAST_ANSWERS = 5
"""Of trees that did not have a curve, to judge them by it."""


def fitted(points: Points, rng: np.random.Generator) -> Ensemble:
    """Trees for these points."""
    return Ensemble(points, int(rng.integers(2**31)))


class Ensemble:
    """The trees; a :class:`~search.surrogates.base.Surrogate`."""

    def __init__(self, points: Points, seed: int) -> None:
        self.points = points
        self.noise = _LEAST_NOISE**2
        self.lengths = np.full(points.features.shape[1], _LENGTH)
        self._seed = seed

    def plus(self, points: Points) -> Ensemble:
        return Ensemble(self.points.plus(points), self._seed)

    def outlook(self, features: Array, owner: Indices) -> EnsembleOutlook:
        return EnsembleOutlook(self, features, owner)

    def replays(self) -> Replays:
        """By the trees that did not have the curve."""
        begun: list[bool] = []
        newest: list[int] = []
        found: list[Array] = []
        for place, (owner, rows) in enumerate(self.curves.items()):
            without = self._bags[:, place] == 0
            if without.sum() < _LEAST_ANSWERS:
                continue
            last = int(np.flatnonzero(self.points.owner == owner)[-1])
            features = np.repeat(self.points.features[last : last + 1], len(rows), axis=0)
            ends = np.full(len(rows), rows[-1, 0])
            answers = self.untrained(features[:1], ends[:1])
            if len(rows) > 1:
                states = np.array([_state(rows[:upto]) for upto in range(1, len(rows))])
                answers = np.column_stack([answers, self.trained(features[1:], states, ends[1:])])
            begun += [upto > 0 for upto in range(len(rows))]
            newest += [last] * len(rows)
            found.append(answers[without])
        means = [answers.mean(axis=0) for answers in found]
        deviations = [np.sqrt((self.widened * a.std(axis=0)) ** 2 + self.noise) for a in found]
        return Replays(
            np.array(begun, dtype=np.bool_),
            self.points.progress[newest],
            np.concatenate([np.zeros(0), *means]),
            np.concatenate([np.zeros(0), *deviations]),
            self.points.values[newest],
            self.points.rivals[newest],
        )

    def report(self) -> dict[str, Any]:
        values, mean, sd = self._left_out
        sd = np.sqrt((self.widened * sd) ** 2 + self.noise)
        return {
            "points": len(self.points),
            "out_of_bag": fit_quality(values, mean, sd) if len(values) else {},
            "widened": round(self.widened, 4),
            "trees": _TREES,
        }

    @cached_property
    def curves(self) -> dict[int, Array]:
        """By owner, its points as rows (progress, value), rising."""
        found = {}
        for owner in np.unique(self.points.owner).tolist():
            mine = np.flatnonzero(self.points.owner == owner)
            mine = mine[np.argsort(self.points.progress[mine], kind="stable")]
            found[owner] = np.column_stack([self.points.progress[mine], self.points.values[mine]])
        return found

    def untrained(self, features: Array, progress: Array) -> Array:
        """What each tree answers for configurations without a curve, shape (trees, m)."""
        return _answers(self._trees[0], np.column_stack([features, progress]))

    def trained(self, features: Array, state: Array, progress: Array) -> Array:
        """... for those with one; ``state`` (m, 3) as :func:`_state` has it. Shape (trees, m)."""
        if not self._trees[1]:
            # No curve has two points: nothing is known of how they go on.
            return state[:, 1] + self.untrained(features, progress) - self.untrained(features, state[:, 0])
        rows = np.column_stack([features, state, progress])
        answers: Array = state[:, 1] + _answers(self._trees[1], rows)
        return answers

    @cached_property
    def widened(self) -> float:
        """The factor on deviations that fits the curves that trees did not have."""
        values, mean, sd = self._left_out
        if not len(values):
            return 1.0
        errors = (values - mean) ** 2 / (sd**2 + self.noise)
        return float(np.clip(math.sqrt(errors.mean()), *_WIDENED))

    @cached_property
    def _examples(self) -> _Examples:
        return _Examples.of(self.points, self.curves)

    @cached_property
    def _bags(self) -> Array:
        """How often each tree has each curve, shape (trees, curves)."""
        rng = np.random.default_rng(self._seed)
        count = len(self.curves)
        return rng.multinomial(count, np.full(count, 1 / count), size=_TREES).astype(np.float64)

    @cached_property
    def _trees(self) -> tuple[list[ExtraTreeRegressor], list[ExtraTreeRegressor]]:
        found = self._examples
        fresh = _grow(self._bags, found.curve, found.fresh, found.values, self._seed)
        grown = _grow(self._bags, found.pair_curve, found.pairs, found.changes, self._seed)
        return fresh, grown

    @cached_property
    def _left_out(self) -> tuple[Array, Array, Array]:
        """Of each newest point: its value, and mean and deviation of the trees without its curve."""
        found = self._examples
        newest = np.append(found.curve[1:] != found.curve[:-1], True)
        answers = _answers(self._trees[0], found.fresh[newest])
        without = self._bags[:, found.curve[newest]] == 0
        enough = without.sum(axis=0) >= _LEAST_ANSWERS
        answers = np.where(without, answers, np.nan)[:, enough]
        return found.values[newest][enough], np.nanmean(answers, axis=0), np.nanstd(answers, axis=0)


class EnsembleOutlook:
    """Predictions; an :class:`~search.surrogates.base.Outlook`."""

    def __init__(self, model: Ensemble, features: Array, owner: Indices) -> None:
        self._model, self._features = model, features
        self._owner = owner
        self._known = np.array([place in model.curves for place in owner.tolist()], dtype=np.bool_)
        self._state = np.array([_state(model.curves[o]) for o in owner[self._known].tolist()]).reshape(
            -1, 3
        )
        self._ends = self._futures(np.ones(len(features)))
        self.mean: Array = self._ends.mean(axis=0)
        self.sd: Array = self._deviation(self._ends)

    def at(self, progress: Array) -> tuple[Array, Array, Array]:
        answers = self._futures(progress)
        mean = answers.mean(axis=0)
        shared = ((answers - mean) * (self._ends - self.mean)).mean(axis=0) * self._model.widened**2
        return mean, self._deviation(answers), shared

    def _deviation(self, answers: Array) -> Array:
        deviation: Array = np.maximum(self._model.widened * answers.std(axis=0), 1e-5)
        return deviation

    def _futures(self, progress: Array) -> Array:
        """What each tree answers for each configuration, shape (trees, m)."""
        model, known = self._model, self._known
        answers = np.empty((_TREES, len(progress)))
        if not known.all():
            answers[:, ~known] = model.untrained(self._features[~known], progress[~known])
        if known.any():
            answers[:, known] = model.trained(self._features[known], self._state, progress[known])
            for at in np.flatnonzero(known).tolist():
                curve = model.curves[int(self._owner[at])]
                if progress[at] <= curve[-1, 0]:  # it was there
                    answers[:, at] = np.interp(progress[at], curve[:, 0], curve[:, 1])
        return answers


@dataclass(frozen=True, slots=True)
class _Examples:
    """What trees learn from. ``n`` points, ``p`` pairs of points of one curve."""

    curve: Indices
    """Shape (n,): place of the point's curve among the curves."""
    fresh: Array
    """Shape (n, d + 1): features, progress."""
    values: Array
    pair_curve: Indices
    pairs: Array
    """Shape (p, d + 4): features, state, progress."""
    changes: Array

    @classmethod
    def of(cls, points: Points, curves: dict[int, Array]) -> _Examples:
        features = {owner: points.features[at] for at, owner in enumerate(points.owner.tolist())}
        width = points.features.shape[1]
        curve, fresh, values = [], [], []
        pair_curve, pairs, changes = [], [], []
        for place, (owner, rows) in enumerate(curves.items()):
            for later, (progress, value) in enumerate(rows.tolist()):
                curve.append(place)
                fresh.append([*features[owner], progress])
                values.append(value)
                for upto in range(1, later + 1):
                    state = _state(rows[:upto])
                    pair_curve.append(place)
                    pairs.append([*features[owner], *state, progress])
                    changes.append(value - state[1])
        return cls(
            np.array(curve, dtype=np.intp),
            np.array(fresh).reshape(-1, width + 1),
            np.array(values),
            np.array(pair_curve, dtype=np.intp),
            np.array(pairs).reshape(-1, width + 4),
            np.array(changes),
        )


def _state(curve: Array) -> tuple[float, float, float]:
    """How far a curve has come, its newest value, and the slope of its last stretch (0 if it has none)."""
    at, value = curve[-1].tolist()
    if len(curve) == 1 or at <= curve[-2, 0]:
        return at, value, 0.0
    return at, value, (value - float(curve[-2, 1])) / (at - float(curve[-2, 0]))


def _grow(bags: Array, curve: Indices, rows: Array, targets: Array, seed: int) -> list[ExtraTreeRegressor]:
    """A tree for each bag, each with the examples of its curves; none if there is nothing to learn."""
    trees = []
    for number, bag in enumerate(bags if len(rows) else ()):
        weights = bag[curve]
        mine = weights > 0
        if not mine.any():  # its curves have no example: it has them all
            mine, weights = np.ones(len(rows), dtype=np.bool_), np.ones(len(rows))
        tree = ExtraTreeRegressor(max_features=1.0, random_state=seed ^ number)
        trees.append(tree.fit(rows[mine], targets[mine], sample_weight=weights[mine]))
    return trees


def _answers(trees: list[ExtraTreeRegressor], rows: Array) -> Array:
    """Shape (trees, m)."""
    single = rows.astype(np.float32)
    return np.stack([tree.tree_.predict(single)[:, 0] for tree in trees])
