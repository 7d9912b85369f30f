"""Stopping rules: what a measurement says about going on.

Rules look at one point of a trial's curve. Two need to know other trials, and ask for that only when they
are about to judge: the median rule for their best-so-far values at the same step, the predicted rule for a
forecast of where the trial will end.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar


@dataclass(frozen=True, slots=True)
class Median:
    """Stop a trial whose best value so far is worse than the median of the others at its step.

    The median stopping rule of Golovin et al., "Google Vizier: A Service for Black-Box Optimization"
    (2017), with best-so-far values on both sides in place of running averages.
    """

    min_trials: int = 5
    """Other curves that must have reached the step."""
    grace: int = 0
    """No trial is stopped before this step."""


@dataclass(frozen=True, slots=True)
class Patience:
    """Stop a trial that has not improved for ``reports`` measurements.

    An improvement smaller than ``min_delta`` does not count; whoever counts ``Point.since_best`` applies
    it (:func:`improves`).
    """

    reports: int
    min_delta: float = 0.0


@dataclass(frozen=True, slots=True)
class Divergence:
    """Fail a trial whose value is worse than ``bound``, or by ``factor`` times worse than its first."""

    bound: float | None = None
    factor: float | None = None


@dataclass(frozen=True, slots=True)
class Target:
    """End a trial successfully as soon as its value is as good as ``value``."""

    value: float


@dataclass(frozen=True, slots=True)
class Predicted:
    """Stop a trial that will hardly end better than the best value known, says a regression on the study's
    finished curves (:mod:`search.prediction`)."""

    risk: float = 0.01
    """Chance of stopping the trial that would have been the best of all; how sure the regression must be
    for a stop is calibrated to it."""
    min_trials: int = 7
    """Trials that must have been trained to the end before any is stopped."""
    protect: int = 5
    """A trial that is among so many best at its step is not stopped."""
    grace: int | None = None
    """No trial is stopped before this step; None: before 11 % of the full fidelity."""


Rule = Median | Patience | Divergence | Target | Predicted
_Rule = TypeVar("_Rule", Median, Patience, Divergence, Target, Predicted)


@dataclass(frozen=True, slots=True)
class Forecast:
    """Where a trial is expected to end. In the metric's own direction."""

    value: float
    """The best value it is expected to have at the full fidelity."""
    good: float
    bad: float
    """The two ends of its 90 % interval."""
    chance: float
    """Of beating the incumbent."""
    threshold: float
    """A smaller chance is too small."""
    incumbent: float
    """The best value known of any trial."""
    protected: bool
    """Whether it is among the best few at its step."""

    def __str__(self) -> str:
        low, high = sorted((self.good, self.bad))
        chance, threshold = _share(self.chance), _share(self.threshold)
        return (
            f"chance of {chance} to beat {self.incumbent:.6g}, under {threshold}: "
            f"predicted to end at {self.value:.4g} (90 %: {low:.4g} to {high:.4g}), seen"
        )

    @property
    def hopeless(self) -> bool:
        """Whether the trial is to be stopped."""
        return self.chance < self.threshold and not self.protected


@dataclass(frozen=True, slots=True)
class Point:
    """A measurement, and what is known of its trial's curve up to it. In the metric's own direction."""

    step: int
    value: float
    best: float
    """The best value up to and including this one, of those that keep the study's limits; if none does, its
    own."""
    first: float
    """The value of the first measurement."""
    since_best: int
    """Measurements since the last one that :func:`improves`; 0 if this is it."""
    counts: bool = True
    """Whether it keeps the study's limits on metrics. If not, it reaches no target."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """What to do with the trial. ``fail`` means that it has diverged; ``complete`` is a success."""

    action: Literal["continue", "stop", "fail", "complete"]
    reason: str = ""


GO_ON = Judgement("continue")


def judge(
    rules: Sequence[Rule],
    point: Point,
    maximize: bool,
    peers: Callable[[], Sequence[float]],
    forecast: Callable[[], Forecast | None] = lambda: None,
) -> Judgement:
    """What the rules say to this point.

    A non-finite value always fails, whatever the rules are. Otherwise a target that is reached comes
    first, then divergence, patience, the forecast and, last because it costs a query, the median.

    ``peers`` gives the best-so-far values of the study's other trials at the same step. Non-finite ones
    are taken for the worst. ``forecast`` says where the trial will end; None if nobody knows.
    """
    if not math.isfinite(point.value):
        return Judgement("fail", f"the metric is {_name(point.value)} at {point.step}: diverged")
    for target in _of(rules, Target):
        if point.counts and _no_worse(point.value, target.value, maximize):
            return Judgement("complete", f"{point.value:.6g} reaches the target {target.value:.6g}")
    for divergence in _of(rules, Divergence):
        reason = _diverged(divergence, point, maximize)
        if reason:
            return Judgement("fail", reason)
    for patience in _of(rules, Patience):
        if point.since_best >= patience.reports:
            return Judgement(
                "stop",
                f"no improvement on {point.best:.6g} in {point.since_best} "
                f"measurement{'s' if point.since_best != 1 else ''} (patience {patience.reports})",
            )
    seen = forecast() if _of(rules, Predicted) else None
    if seen is not None and seen.hopeless:
        return Judgement("stop", f"{seen} at {point.step}")
    medians = [rule for rule in _of(rules, Median) if point.step >= rule.grace]
    if medians:
        worst = -math.inf if maximize else math.inf
        values = [value if math.isfinite(value) else worst for value in peers()]
        for rule in medians:
            if len(values) < rule.min_trials:
                continue
            middle = statistics.median(values)
            if not _no_worse(point.best, middle, maximize):
                return Judgement(
                    "stop",
                    f"best {point.best:.6g} at {point.step} is worse than {middle:.6g}, "
                    f"the median of {len(values)} other trials there",
                )
    return GO_ON


def improves(value: float, best: float | None, maximize: bool, min_delta: float = 0.0) -> bool:
    """Whether ``value`` is better than ``best`` by more than ``min_delta``; anything finite beats None."""
    if not math.isfinite(value):
        return False
    if best is None or not math.isfinite(best):
        return True
    return value > best + min_delta if maximize else value < best - min_delta


def _diverged(rule: Divergence, point: Point, maximize: bool) -> str:
    """Why the point is a divergence; empty if it is none."""
    if rule.bound is not None and not _no_worse(point.value, rule.bound, maximize):
        return f"{point.value:.6g} at {point.step} is worse than the bound {rule.bound:.6g}: diverged"
    if rule.factor is not None and math.isfinite(point.first):
        # Of a first value v, "factor times worse" is v + (factor - 1)|v|: factor * v for a positive loss,
        # and still on the worse side when v is negative. From 0 nothing is a multiple.
        drift = (rule.factor - 1) * abs(point.first)
        limit = point.first - drift if maximize else point.first + drift
        if drift > 0 and not _no_worse(point.value, limit, maximize):
            return (
                f"{point.value:.6g} at {point.step} is worse than {limit:.6g}, "
                f"{rule.factor:g} times the first value {point.first:.6g}: diverged"
            )
    return ""


def _of(rules: Sequence[Rule], kind: type[_Rule]) -> list[_Rule]:
    return [rule for rule in rules if isinstance(rule, kind)]


def _no_worse(value: float, than: float, maximize: bool) -> bool:
    return value >= than if maximize else value <= than


def _share(chance: float) -> str:
    """A chance in percent, of which two digits matter."""
    return f"{100 * chance:.2g} %" if chance > 1e-6 else "next to nothing"


def _name(value: float) -> str:
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
