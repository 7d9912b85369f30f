"""``autolrs``: AutoLRS as it was published.

Jin et al., "AutoLRS: Automatic Learning-Rate Schedule by Bayesian Optimization on the Fly" (ICLR 2021).
Training goes in stages of constant rate. In each, ten rates are tried one after the other from the
stage's first checkpoint, each for a tenth of the stage; a forecaster fits ``a exp(b t) + c`` with b < 0 to
the smoothed losses and says where the rate would end the stage; the rate with the lowest forecast trains
it. The rates come from Bayesian optimisation on their logarithm: the first at random, the others where the
lower confidence bound of a Gaussian process is lowest. A stage is twice as long as the one before, up to
eight times the first. The search trains as many steps as the training itself.

Details are those of the authors' program: the bound is the mean less 10^6 standard deviations, which looks
where least is known and nowhere else; losses are smoothed by quadratic splines, with the one that is
furthest off left out first; a diverged try counts as a loss of 10^6. It differs from theirs in this: the
loss is the study's metric throughout (they forecast the training loss in the doubling stages), and the
first stage is a fifteenth of the training, so that four stages make it up, where theirs has 1,000 steps.

It is here to be compared with; ``lr-schedule`` is the better choice (bench/RESULTS.md).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from search.decision import Answer, Schedule
from search.space import ParamValue, SearchSpace
from search.strategies.options import Option, read_options
from search.strategies.plans import Plan, Wanted, carry_out
from search.strategies.rate import PARAMETER, Rate
from search.view import Fidelity, StudyView

_CANDIDATES = 10
_TRIED_FOR = 0.1
"""Of the stage."""
_FIRST_STAGE = 15
"""So many of them make the training: 1 + 2 + 4 + 8."""
_LONGEST = 8
"""Stages of the first one's length."""


@dataclass(frozen=True, slots=True)
class AutoLrs:
    """See the module."""

    rate: Rate

    name: ClassVar[str] = "autolrs"
    lookahead: ClassVar[bool] = False
    known_options: ClassVar[tuple[Option, ...]] = (PARAMETER,)
    conditional: ClassVar[bool] = False
    categorical: ClassVar[bool] = False
    outcomes: ClassVar[bool] = False
    forks: ClassVar[bool] = True

    @classmethod
    def create(cls, options: Mapping[str, ParamValue], space: SearchSpace, fidelity: Fidelity) -> AutoLrs:
        read_options(cls.name, options, cls.known_options)
        return cls(Rate.read(cls.name, options, space))

    def first_target(self, fidelity: Fidelity) -> int:
        return fidelity.max

    def decide(self, view: StudyView, slots: int, rng: np.random.Generator) -> Answer:
        from search.threads import one_thread  # imports torch

        diagnostics: dict[str, Any] = {"stages": []}
        with one_thread():
            return carry_out(view, slots, self._plan(view, diagnostics), self.rate.params, diagnostics)

    def _plan(self, view: StudyView, diagnostics: dict[str, Any]) -> Plan:
        # Importing its models takes a second.
        from search.strategies.autolrs_model import DIVERGED, forecast, next_rate

        fidelity = view.fidelity
        unit = fidelity.unit
        parent: int | None = None
        start = 0
        for number, end in enumerate(stages(fidelity), start=1):
            tried_until = _measured(fidelity, start + _TRIED_FOR * (end - start), start, end)
            tries: list[tuple[float, float]] = []
            while len(tries) < _CANDIDATES:
                rate = next_rate(self.rate, tuple(tries), view.seed, number)
                reason = (
                    f"stage {number}, {start} to {end} {unit}: rate {rate:.3g}, try {len(tries) + 1} of "
                    f"{_CANDIDATES}, to {tried_until}"
                )
                (result,) = yield [Wanted(_constant(rate, start), tried_until, reason, parent, start)]
                tries.append((rate, forecast(result, end)))
            rate, loss = min(tries, key=lambda t: t[1])
            diagnostics["stages"].append({"from": start, "to": end, "rate": rate, "tries": tries})
            if loss >= DIVERGED:
                return f"every rate diverged in stage {number}"
            where = f"stage {number}, {start} to {end} {unit}"
            reason = f"{where}: rate {rate:.3g} has the lowest forecast, {loss:.4g}"
            (result,) = yield [Wanted(_constant(rate, start), end, reason, parent, start)]
            if not math.isfinite(result.loss):
                return f"the training diverged in stage {number}, with rate {rate:.3g}"
            parent, start = result.trial, end
        return f"all {number} stages are trained"


def stages(fidelity: Fidelity) -> list[int]:
    """Where each stage ends."""
    ends: list[int] = []
    length = 1
    share = 0.0
    while not ends or ends[-1] < fidelity.max:
        share += length / _FIRST_STAGE
        start = ends[-1] if ends else 0
        end = _measured(fidelity, share * fidelity.max, start, fidelity.max)
        ends.append(fidelity.max if share > 1 - 1 / (2 * _FIRST_STAGE) else end)
        length = min(_LONGEST, 2 * length)
    return ends


def _constant(rate: float, start: int) -> Schedule:
    return ((start, rate),)


def _measured(fidelity: Fidelity, step: float, after: int, until: int) -> int:
    """The step nearest to ``step`` that is measured, behind ``after`` and not beyond ``until``."""
    every = fidelity.report_every
    return min(until, max(after + every, round(step / every) * every))
