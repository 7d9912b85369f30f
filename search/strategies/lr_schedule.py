"""``lr-schedule``: finds a learning-rate schedule while it trains, for twice the steps of one training.

A *trunk* is a training at a constant rate, after a short warm-up. How good it is, is not its loss, in which
the noise of a high rate hides progress, but the loss after a short cool-down to zero that is forked from
it. The search goes in rounds (``_ROUNDS``), each of which trains the trunks that are left a stretch on,
cools each one down and keeps the best:

1. Six rates, even on the log scale over the whole range, start from nothing.
2. The three best go on.
3. The best goes on, and so do two forks of it, at 0.6 and at 1.3 times its rate. What was best over a
   few steps is seldom the best for many; here the rate is corrected where the horizon is longer, for the
   price of a stretch and without a start from nothing.
4. The best of these goes on.

At last the trunk that is left goes on to four fifths of the training, and cools down over the last fifth.
Every cool-down ends a training that can be the study's best: where long trainings overfit, an early one is.

The rounds cost 1.0 trainings beside the trunk that is left. A trunk that diverges costs its stretch. All
trainings are forked from one another at the same step, so they see the same batches. Warm-up, constant rate
and short decay: Hägele et al., "Scaling Laws and Compute-Optimal Training Beyond Fixed Training Durations"
(2024); greedy choice by losses before a decay misleads: Wu et al., "Understanding Short-Horizon Bias in
Stochastic Meta-Optimization" (2018).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from search.decision import Answer, Schedule
from search.errors import Mistake, SearchError
from search.schedules import constant, decay
from search.space import ParamValue, SearchSpace
from search.strategies.options import Option, read_options
from search.strategies.plans import Plan, Result, Wanted, carry_out
from search.strategies.rate import PARAMETER, Rate
from search.view import Fidelity, StudyView


@dataclass(frozen=True, slots=True)
class _Round:
    """Lengths are shares of a full training."""

    until: float
    """The trunks are trained to here."""
    cooling: float
    """How long their cool-downs are."""
    kept: int
    factors: tuple[float, ...] = ()
    """For the next round the best one is forked with its rate times these."""


_ROUNDS = (
    _Round(0.05, 0.0167, kept=3),
    _Round(0.1, 0.035, kept=1, factors=(0.6, 1.3)),
    _Round(0.2, 0.05, kept=1),
    _Round(0.4, 0.08, kept=1),
)
_RATES = 6
"""In the first round."""
_WARMUP = 0.03
_LAST_DECAY = 0.8
_LEAST_MEASUREMENTS = 20
"""In a full training: rounds and cool-downs begin and end at measurements."""


@dataclass(frozen=True, slots=True)
class _Trunk:
    """A training at a constant rate."""

    rate: float
    schedule: Schedule
    parent: int | None = None
    forked_at: int = 0

    def wanted(self, until: int, reason: str) -> Wanted:
        return Wanted(self.schedule, until, f"{reason}: rate {self.rate:.3g}", self.parent, self.forked_at)


@dataclass(frozen=True, slots=True)
class _Cooled:
    """A trunk and what came of it in a round."""

    trunk: _Trunk
    trial: int
    loss: float
    """After the cool-down."""


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
        diagnostics: dict[str, Any] = {"rounds": []}
        plan = self._plan(view.fidelity, diagnostics["rounds"])
        return carry_out(view, slots, plan, self.rate.params, diagnostics)

    def _plan(self, fidelity: Fidelity, log: list[Any]) -> Plan:
        warmup = round(_WARMUP * fidelity.max)
        trunks = [_Trunk(rate, constant(rate, warmup)) for rate in self.rate.grid(_RATES)]
        best: _Trunk | None = None
        for number, round_ in enumerate(_ROUNDS, start=1):
            until = _measured(fidelity, round_.until)
            end = max(_measured(fidelity, round_.until + round_.cooling), until + fidelity.report_every)
            where = f"round {number} of {len(_ROUNDS)}"
            cooled: Sequence[_Cooled] = yield [_cool(trunk, until, end, where) for trunk in trunks]
            ranked = sorted(cooled, key=lambda one: one.loss)
            log.append({"until": until, "end": end, "losses": {c.trunk.rate: c.loss for c in ranked}})
            if not math.isfinite(ranked[0].loss):
                return f"every rate diverged by step {end}: look in a lower range"
            best = ranked[0].trunk
            trunks = [c.trunk for c in ranked[: round_.kept] if math.isfinite(c.loss)]
            for factor in round_.factors:
                rate = best.rate * factor
                if self.rate.low <= rate <= self.rate.high:
                    trunks.append(_Trunk(rate, ((until, rate),), ranked[0].trial, until))
        assert best is not None
        yield [_cool(best, _measured(fidelity, _LAST_DECAY), fidelity.max, "the best trunk is left")]
        return f"trained to the end with peak {best.rate:.3g}"


def _cool(trunk: _Trunk, until: int, end: int, where: str) -> Plan:
    """Train a trunk on and cool it down; a plan that returns what came of it."""
    trained: Result
    (trained,) = yield [trunk.wanted(until, f"{where}, trunk to {until}")]
    if not math.isfinite(trained.loss):
        return _Cooled(trunk, trained.trial, math.inf)
    what = f"cool-down of trial {trained.trial} from {until} to {end}"
    reason = f"{where}, {what}: from rate {trunk.rate:.3g} to 0"
    cooled: Result
    (cooled,) = yield [Wanted(decay(trunk.rate, until, end), end, reason, trained.trial, until)]
    return _Cooled(trunk, trained.trial, cooled.loss)


def _measured(fidelity: Fidelity, share: float) -> int:
    """The step nearest to a share of the training that is measured."""
    every = fidelity.report_every
    return min(fidelity.max, max(every, round(share * fidelity.max / every) * every))
