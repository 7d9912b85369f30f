"""Stopping rules: what a measurement says about going on.

Rules look at one point of a trial's curve. Only the median rule needs to know other trials; it is given
their best-so-far values at the same step, and asks for them only when it is about to judge.
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


Rule = Median | Patience | Divergence | Target
_Rule = TypeVar("_Rule", Median, Patience, Divergence, Target)


@dataclass(frozen=True, slots=True)
class Point:
    """A measurement, and what is known of its trial's curve up to it. In the metric's own direction."""

    step: int
    value: float
    best: float
    """The best value up to and including this one."""
    first: float
    """The value of the first measurement."""
    since_best: int
    """Measurements since the last one that :func:`improves`; 0 if this is it."""


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
) -> Judgement:
    """What the rules say to this point.

    A non-finite value always fails, whatever the rules are. Otherwise a target that is reached comes
    first, then divergence, patience and, last because it costs a query, the median.

    ``peers`` gives the best-so-far values of the study's other trials at the same step. Non-finite ones
    are taken for the worst.
    """
    if not math.isfinite(point.value):
        return Judgement("fail", f"the metric is {_name(point.value)} at {point.step}: diverged")
    for target in _of(rules, Target):
        if _no_worse(point.value, target.value, maximize):
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


def _name(value: float) -> str:
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
