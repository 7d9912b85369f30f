"""Several tuning seeds: which trial is trained with its next one, which is clearly beaten, and who is
tested.

The first training of a configuration is a trial as ever. Once that is completed, the configuration is
trained with the other tuning seeds, one after another, each time from nothing: these are its replicas. A
trial counts with its mean curve over the seeds that were trained to their end.

It is clearly beaten, and its other seeds are spared, when the chance is below :data:`BEATEN` that its mean
over all n seeds would be among the best few. The k losses so far have mean m, all trainings of one
configuration the same variance σ², and nothing is known of a configuration beforehand; so the mean over all
n of them is distributed normally about m with variance σ² (1/k − 1/n). Of σ² the posterior under a scaled
inverse χ² prior makes that a Student t distribution (Gelman et al., Bayesian Data Analysis, 3rd ed., 2.6
and 3.2): its degrees of freedom are those of all repeated trials of the study and of the prior.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from search.decision import Repeat, Spare
from search.strategies.common import percent
from search.view import StudyView, TrialView

BEATEN = 0.05
"""Chance of being among the best few, over all seeds, below which the rest of a trial's seeds is spared."""
PRIOR_WEIGHT = 2.0
"""Degrees of freedom of the prior of the variance between seeds: it weighs as much as one trial of three
seeds."""
PRIOR_SHARE = 0.25
"""What the prior takes seeds to differ by (standard deviation), as a share of what configurations differ
by."""
_NORMAL_MAD = 1.4826
"""Standard deviation over median absolute deviation of a normal distribution."""
CONFIDENCE = 0.95
"""Of the interval of a final score."""


@dataclass(frozen=True, slots=True)
class Score:
    """What a trial counts with."""

    step: int
    """Where its mean curve is best."""
    values: tuple[float, ...]
    """The metric there, one for each seed that was trained to its end."""

    @property
    def mean(self) -> float:
        return math.fsum(self.values) / len(self.values)

    @property
    def spread(self) -> float | None:
        """The standard deviation between seeds; None: only one."""
        return float(np.std(self.values, ddof=1)) if len(self.values) > 1 else None


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean over seeds, with the ends of its interval (None: one seed says nothing about it)."""

    mean: float
    low: float | None
    high: float | None


@dataclass(frozen=True, slots=True)
class Finalist:
    """A trial that is to be trained with the test seeds."""

    trial: int
    score: Score
    reason: str


def score(curves: Sequence[tuple[Sequence[int], Sequence[float]]], maximize: bool) -> Score | None:
    """What trainings of one configuration come to together, from each one's steps and values.

    The best point of the mean curve over the steps that all of them were measured at; None if the mean is
    nowhere finite.
    """
    points = mean_curve(curves)
    finite = [(step, values) for step, values in points if all(map(math.isfinite, values))]
    if not finite:
        return None
    sign = -1.0 if maximize else 1.0
    step, values = min(finite, key=lambda point: (sign * math.fsum(point[1]), point[0]))
    return Score(step, values)


def mean_curve(
    curves: Sequence[tuple[Sequence[int], Sequence[float]]],
) -> list[tuple[int, tuple[float, ...]]]:
    """The values of all curves at each step that they have in common."""
    tables = [dict(zip(steps, values, strict=True)) for steps, values in curves]
    shared = set(tables[0]).intersection(*tables[1:])
    return [(step, tuple(table[step] for table in tables)) for step in sorted(shared)]


def interval(values: Sequence[float]) -> Interval:
    """Student's t interval of the mean, two-sided with :data:`CONFIDENCE`, of at least one value."""
    mean = math.fsum(values) / len(values)
    if len(values) < 2:
        return Interval(mean, None, None)
    from scipy.special import stdtrit  # heavy: only when an interval is wanted

    error = float(np.std(values, ddof=1)) / math.sqrt(len(values))
    half = float(stdtrit(len(values) - 1, 0.5 + CONFIDENCE / 2)) * error
    return Interval(mean, mean - half, mean + half)


def told(view: StudyView) -> StudyView:
    """The study as strategies are to see it: trials with their mean curves, and no replicas.

    A trial of which a replica failed counts as failed so: a configuration that diverges with every other
    seed is not one to recommend.
    """
    if len(view.tuning_seeds) < 2:
        return view
    return replace(view, trials=tuple(_told(trial) for trial in view.trials))


def due(view: StudyView, slots: int) -> tuple[Repeat | Spare, ...]:
    """What is next for completed trials: at most ``slots`` repetitions, the most promising trial's
    first."""
    if len(view.tuning_seeds) < 2:
        return ()
    scored = sorted(_scored(view), key=lambda each: (view.loss(each[1].mean), each[0].number))
    bar = _bar(view, scored)
    spread = _Spread.of(view, scored)
    decisions: list[Repeat | Spare] = []
    units, starts, ahead = view.budget.fidelity, 0, 0
    for trial, own in scored:
        left, under_way = _untried(view, trial), any(_goes_on(replica) for replica in trial.replicas)
        # While there is no bar, only the few that may set it go on.
        early = bar is None and ahead >= _few(view)
        ahead += bool(left) or under_way or _whole(view, own)
        if not left or under_way or early:
            continue
        words, chance = _standing(view, own, bar, spread)
        if chance < BEATEN:
            if not trial.spared:
                decisions.append(Spare(trial.number, f"{words}: clearly beaten, {_seeds(left)} spared"))
        elif starts < slots and (units is None or units >= view.fidelity.max):
            starts += 1
            units = None if units is None else units - view.fidelity.max
            reason = f"with tuning seed {left[0]}: {words}"
            decisions.append(Repeat(trial.number, left[0], view.fidelity.max, reason))
    return tuple(decisions)


def finalists(view: StudyView) -> tuple[Finalist, ...]:
    """The ``view.finalists`` best trials on the tuning seeds, the best first.

    Those that were trained with all of them come before others; who was spared comes not at all.
    """
    wanted = max(1, len(view.tuning_seeds))
    ranked = sorted(
        ((trial, own) for trial, own in _scored(view) if not trial.spared),
        key=lambda each: (len(each[1].values) < wanted, view.loss(each[1].mean), each[0].number),
    )
    unit = view.fidelity.unit
    return tuple(
        Finalist(
            trial.number,
            own,
            f"number {place} on tuning seeds: {own.mean:.4g} at {own.step} {unit}, {_over(own, wanted)}",
        )
        for place, (trial, own) in enumerate(ranked[: view.finalists], start=1)
    )


def _over(own: Score, wanted: int) -> str:
    if wanted == 1:
        return "one seed"
    return f"the mean over {len(own.values)}" + ("" if len(own.values) == wanted else f" of {wanted}")


def _told(trial: TrialView) -> TrialView:
    failed = next((replica for replica in trial.replicas if replica.status == "failed"), None)
    if failed is not None and trial.status == "completed":
        return replace(trial, status="failed", failure=failed.failure, replicas=())
    curves = _curves(trial)
    if len(curves) == 1:
        return replace(trial, replicas=())
    points = mean_curve(curves)
    return replace(
        trial,
        steps=tuple(step for step, _ in points),
        values=tuple(math.fsum(values) / len(values) for _, values in points),
        replicas=(),
    )


def _curves(trial: TrialView) -> list[tuple[Sequence[int], Sequence[float]]]:
    completed = [replica for replica in trial.replicas if replica.status == "completed"]
    return [(each.steps, each.values) for each in (trial, *completed)]


def _scored(view: StudyView) -> list[tuple[TrialView, Score]]:
    """The trials whose configuration was trained to the end here, from nothing and without a failure.

    What a fork comes to is owed to its parent, too, and what was imported was trained with a seed that
    nobody knows.
    """
    found = []
    for trial in view.trials:
        whole = trial.status == "completed" and trial.parent is None and trial.origin != "imported"
        if whole and all(replica.status != "failed" for replica in trial.replicas):
            own = score(_curves(trial), view.maximize)
            if own is not None:
                found.append((trial, own))
    return found


def _untried(view: StudyView, trial: TrialView) -> list[int]:
    tried = {replica.seed for replica in trial.replicas}
    return [seed for seed in view.tuning_seeds[1:] if seed not in tried]


def _bar(view: StudyView, scored: Sequence[tuple[TrialView, Score]]) -> tuple[int, Score] | None:
    """The last of the best few among the trials with all seeds; None while these are fewer. ``scored``: the
    best first."""
    whole = [(trial.number, own) for trial, own in scored if _whole(view, own)]
    return None if len(whole) < _few(view) else whole[_few(view) - 1]


def _whole(view: StudyView, own: Score) -> bool:
    return len(own.values) == len(view.tuning_seeds)


def _few(view: StudyView) -> int:
    """So many of the best are wanted."""
    return max(1, view.finalists)


def _goes_on(replica: TrialView) -> bool:
    return replica.active or replica.status == "paused"


@dataclass(frozen=True, slots=True)
class _Spread:
    """The posterior of the standard deviation between seeds."""

    scale: float
    freedom: float
    trainings: int
    """That it was learned from."""

    @classmethod
    def of(cls, view: StudyView, scored: Sequence[tuple[TrialView, Score]]) -> _Spread:
        repeated = [own for _, own in scored if len(own.values) > 1]
        squares = math.fsum(float(np.var(own.values)) * len(own.values) for own in repeated)
        freedom = sum(len(own.values) - 1 for own in repeated)
        losses = np.array([view.loss(own.mean) for _, own in scored])
        apart = float(np.median(np.abs(losses - np.median(losses)))) if len(losses) else 0.0
        prior = (PRIOR_SHARE * _NORMAL_MAD * apart) ** 2
        variance = (PRIOR_WEIGHT * prior + squares) / (PRIOR_WEIGHT + freedom)
        return cls(math.sqrt(variance), PRIOR_WEIGHT + freedom, sum(len(own.values) for own in repeated))


def _standing(
    view: StudyView, own: Score, bar: tuple[int, Score] | None, spread: _Spread
) -> tuple[str, float]:
    """How a trial stands against the bar, in words, and its chance to come up to it over all seeds."""
    count, every = len(own.values), len(view.tuning_seeds)
    so_far = f"{own.mean:.4g} " + ("with the first seed" if count == 1 else f"over {count} seeds")
    few = _few(view)
    if bar is None:
        best = "trial has" if few == 1 else f"{few} trials have"
        return f"{so_far}; no {best} all {every} tuning seeds yet", 1.0
    ahead = view.loss(bar[1].mean) - view.loss(own.mean)
    error = spread.scale * math.sqrt(1 / count - 1 / every)
    if error > 0:
        from scipy.special import stdtr  # heavy: only when something is to be compared

        chance = float(stdtr(spread.freedom, ahead / error))
    else:
        chance = 1.0 if ahead > 0 else 0.0
    wanted = "come up to the best" if few == 1 else f"be among the best {few}"
    last = "" if few == 1 else ", is the last of them"
    return (
        f"{so_far}, {percent(chance)} chance to {wanted} over all {every} (trial {bar[0]}, "
        f"{bar[1].mean:.4g}{last}); seeds differ by {spread.scale:.2g}",
        chance,
    )


def _seeds(left: Sequence[int]) -> str:
    named = ", ".join(map(str, left))
    return f"seed {named} is" if len(left) == 1 else f"seeds {named} are"
