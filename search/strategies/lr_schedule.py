"""``lr-schedule``: finds a learning-rate schedule while it trains, for twice the steps of one training.

It looks for the best peak of one family: a long linear warm-up, a constant rate, a short decay to zero. How
good a rate is, is not the loss of a *trunk*, a training at that rate, in which the noise of a high rate
hides progress, but the loss after a short cool-down to zero that is forked from it.

1. Scan. Five rates, even on the log scale over the whole range, in short trainings, each with a warm-up and
   a cool-down of its own. The vertex of a parabola in the logarithm of the rate through the best and its
   neighbours is the first peak to try.
2. Search. Four trunks with the warm-up of the full training are cooled down when it ends: the first peak
   and half of it; then half of the lower or twice the upper one, whichever is the better; then the vertex
   of a parabola through these three.
3. The best trunk goes on to 0.7 of the training, and cools down over the rest. On the way it is cooled down
   twice more, to end at 0.37 and at 0.5. Every cool-down ends a training that can be the study's best:
   where long trainings overfit, an early one is.

With 60 measurements in a full training or more that is 2.0 trainings at most, one of them the cost of the
search; with fewer the short stretches are rounded up.

Why the warm-up is long and the search waits for its end: a scan favours rates that are too high for a long
training, and a trunk whose rate rises too far too fast is damaged for good, which no lower rate afterwards
repairs. It shows when the warm-up ends, and hardly before; from then on the order of the trunks changes
little. A long warm-up also makes more rates good ones, for a little progress lost where rates are low.

All trainings are of the same seed, so they see the same batches. Warm-up, constant rate and short decay:
Hägele et al., "Scaling Laws and Compute-Optimal Training Beyond Fixed Training Durations" (2024); longer
warm-ups admit higher rates: Kalra and Barkeshli, "Why Warmup the Learning Rate?" (2024); greedy choice by
losses before a decay misleads: Wu et al., "Understanding Short-Horizon Bias in Stochastic
Meta-Optimization" (2018).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from search.decision import Answer
from search.errors import Mistake, SearchError
from search.schedules import constant, decay
from search.space import ParamValue, SearchSpace
from search.strategies.options import Option, read_options
from search.strategies.plans import Plan, Result, Wanted, carry_out
from search.strategies.rate import PARAMETER, Rate
from search.view import Fidelity, StudyView


@dataclass(frozen=True, slots=True)
class _Stretch:
    """A trunk and its cool-down. Lengths are shares of a full training."""

    warmup: float
    until: float
    """The trunk is trained to here."""
    end: float
    """Its cool-down ends here."""


_WARMUP = 0.18
"""Of the search and what follows."""
_SCAN = _Stretch(0.01, 0.0167, 0.0333)
_SEARCH = _Stretch(_WARMUP, 0.18, 0.21)
_EARLY = (_Stretch(_WARMUP, 0.3, 0.37), _Stretch(_WARMUP, 0.42, 0.5))
_LAST = _Stretch(_WARMUP, 0.7, 1.0)
_RATES = 5
"""In the scan."""
_TRUNKS = 4
"""In the search."""
_STEP = 2.0
"""Factor from one peak to the next, until the best lies between two others."""
_APART = 1.15
"""Peaks that are closer than this factor are not told apart."""
_LEAST_MEASUREMENTS = 20
"""In a full training: trunks and cool-downs begin and end at measurements."""


@dataclass(frozen=True, slots=True)
class Cooled:
    """A trunk and what came of it."""

    rate: float
    loss: float
    """After the cool-down; infinite if it diverged."""


@dataclass(frozen=True, slots=True)
class LrSchedule:
    """See the module."""

    rate: Rate

    name: ClassVar[str] = "lr-schedule"
    lookahead: ClassVar[bool] = False
    known_options: ClassVar[tuple[Option, ...]] = (PARAMETER,)
    conditional: ClassVar[bool] = False
    categorical: ClassVar[bool] = False
    outcomes: ClassVar[bool] = False
    forks: ClassVar[bool] = True

    @classmethod
    def create(
        cls, options: Mapping[str, ParamValue], space: SearchSpace, fidelity: Fidelity
    ) -> LrSchedule:
        read_options(cls.name, options, cls.known_options)
        if fidelity.max < _LEAST_MEASUREMENTS * fidelity.report_every:
            needed = max(1, fidelity.max // _LEAST_MEASUREMENTS)
            message = f"{cls.name} needs {_LEAST_MEASUREMENTS} measurements in a full training"
            hint = f"set report_every to {needed} or less, or train longer"
            raise SearchError([Mistake("/fidelity/report_every", message, hint)])
        return cls(Rate.read(cls.name, options, space))

    def first_target(self, fidelity: Fidelity) -> int:
        return fidelity.max

    def decide(self, view: StudyView, slots: int, rng: np.random.Generator) -> Answer:
        diagnostics: dict[str, Any] = {"phases": []}
        plan = self._plan(view.fidelity, diagnostics["phases"])
        return carry_out(view, slots, plan, self.rate.params, diagnostics)

    def _first(self, scan: Sequence[Cooled]) -> float:
        """The first peak to try: in between the rates of the scan that are beside its best one."""
        by_rate, best = _ordered(scan)
        bottom = vertex(scan)
        if bottom is None:
            return by_rate[best].rate
        beside = by_rate[max(0, best - 1)].rate, by_rate[min(len(by_rate) - 1, best + 1)].rate
        return min(max(bottom, beside[0]), beside[1])

    def _plan(self, fidelity: Fidelity, log: list[Any]) -> Plan:
        scan = self.rate.grid(_RATES)
        cooled: Sequence[Cooled] = yield [_cool(fidelity, rate, _SCAN, "scan") for rate in scan]
        log.append(_logged("scan", cooled))
        if not any(math.isfinite(one.loss) for one in cooled):
            return f"every rate diverged by step {_measured(fidelity, _SCAN.end)}: look in a lower range"
        first = self._first(cooled)
        tried: list[Cooled] = []
        second = next_rate([Cooled(first, 0.0)], self.rate)
        wanted = [first] if second is None else [first, second]
        while wanted:
            cooled = yield [_cool(fidelity, rate, _SEARCH, "search") for rate in wanted]
            tried += cooled
            further = next_rate(tried, self.rate) if len(tried) < _TRUNKS else None
            wanted = [] if further is None else [further]
        log.append(_logged("search", tried))
        best = min(tried, key=lambda one: one.loss)
        if not math.isfinite(best.loss):
            return f"every rate diverged by step {_measured(fidelity, _SEARCH.end)}: look in a lower range"
        # Once the trunk has come as far as an early end needs, both go on side by side.
        first_end, second_end = _EARLY
        yield [_trunk(fidelity, best.rate, first_end, "the best")]
        yield [
            _cool(fidelity, best.rate, first_end, "the best, early end"),
            _trunk(fidelity, best.rate, second_end, "the best"),
        ]
        yield [
            _cool(fidelity, best.rate, second_end, "the best, early end"),
            _cool(fidelity, best.rate, _LAST, "the best, end"),
        ]
        return f"trained to the end with peak {best.rate:.3g}"


def vertex(tried: Sequence[Cooled]) -> float | None:
    """The best rate by a parabola in the logarithm of the rate through three of those tried: the best one
    and its neighbours, or the two next to it if it is an outer one. None if there are no three, one of
    them has no finite loss, or the parabola has no lowest point."""
    by_rate, best = _ordered(tried)
    first = min(max(0, best - 1), len(by_rate) - 3)
    three = by_rate[first : first + 3] if first >= 0 else []
    if not three or not all(math.isfinite(one.loss) for one in three):
        return None
    bend, slope, _ = np.polyfit([math.log(one.rate) for one in three], [one.loss for one in three], 2)
    return math.exp(-slope / (2 * bend)) if bend > 0 else None


def next_rate(tried: Sequence[Cooled], within: Rate) -> float | None:
    """The rate to try after those tried, one or more; None if none is left that would tell more.

    It is the vertex of the parabola, but not farther than a step beyond those tried. Where there is none:
    beyond the best one, below before above, if none was tried on that side and the range has room; else
    between it and the better of its neighbours. If all diverged, below.
    """
    by_rate, best = _ordered(tried)
    rate, low, high = by_rate[best].rate, by_rate[0].rate, by_rate[-1].rate
    bottom = vertex(tried)
    if bottom is not None:
        wanted = within.clipped(min(max(bottom, low / _STEP), high * _STEP))
    elif best == 0 and within.low <= rate / _APART:
        wanted = within.clipped(rate / _STEP)
    elif not math.isfinite(by_rate[best].loss):
        return None
    elif best == len(by_rate) - 1 and within.high >= rate * _APART:
        wanted = within.clipped(rate * _STEP)
    elif len(by_rate) > 1:
        beside = [by_rate[i] for i in (best - 1, best + 1) if 0 <= i < len(by_rate)]
        wanted = math.sqrt(rate * min(beside, key=lambda one: one.loss).rate)
    else:
        return None
    return wanted if all(max(wanted / one.rate, one.rate / wanted) >= _APART for one in tried) else None


def _ordered(tried: Sequence[Cooled]) -> tuple[list[Cooled], int]:
    """By rate, and the place of the best one."""
    by_rate = sorted(tried, key=lambda one: one.rate)
    return by_rate, min(range(len(by_rate)), key=lambda i: by_rate[i].loss)


def _trunk(fidelity: Fidelity, rate: float, stretch: _Stretch, where: str) -> Wanted:
    until = _measured(fidelity, stretch.until)
    schedule = constant(rate, round(stretch.warmup * fidelity.max))
    return Wanted(schedule, until, f"{where}, trunk to {until}: rate {rate:.3g}")


def _cool(fidelity: Fidelity, rate: float, stretch: _Stretch, where: str) -> Plan:
    """Train a trunk on and cool it down; a plan that returns what came of it."""
    until = _measured(fidelity, stretch.until)
    end = max(_measured(fidelity, stretch.end), until + fidelity.report_every)
    trunk: Result
    (trunk,) = yield [_trunk(fidelity, rate, stretch, where)]
    if not math.isfinite(trunk.loss):
        return Cooled(rate, math.inf)
    what = f"cool-down of trial {trunk.trial} from {until} to {end}"
    reason = f"{where}, {what}: from rate {rate:.3g} to 0"
    cooled: Result
    (cooled,) = yield [Wanted(decay(rate, until, end), end, reason, trunk.trial, until)]
    return Cooled(rate, cooled.loss)


def _measured(fidelity: Fidelity, share: float) -> int:
    """The step nearest to a share of the training that is measured."""
    every = fidelity.report_every
    return min(fidelity.max, max(every, round(share * fidelity.max / every) * every))


def _logged(phase: str, cooled: Sequence[Cooled]) -> dict[str, Any]:
    return {"phase": phase, "losses": {one.rate: one.loss for one in cooled}}
