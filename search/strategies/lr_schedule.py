"""``lr-schedule``: finds a learning-rate schedule while it trains."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from search.decision import Answer
from search.schedules import constant, decay
from search.space import ParamValue, SearchSpace
from search.strategies.options import Option, read_options
from search.strategies.plans import Plan, Result, Wanted, carry_out
from search.strategies.rate import PARAMETER, Rate
from search.view import Fidelity, StudyView

import json, os
CFG = dict(warm=0.05, K=8, rounds=[(0.05, 0.0125, 3), (0.15, 0.05, 2), (0.35, 0.1, 1)], ends=[(0.8, 1.0, "linear")])
CFG.update(json.loads(os.environ.get("LRCFG", "{}")))


@dataclass(frozen=True, slots=True)
class LrSchedule:
    """See the module."""

    rate: Rate

    name: ClassVar[str] = "lr-schedule"
    lookahead: ClassVar[bool] = False
    known_options: ClassVar[tuple[Option, ...]] = (PARAMETER,)
    conditional: ClassVar[bool] = False
    categorical: ClassVar[bool] = True
    outcomes: ClassVar[bool] = False
    forks: ClassVar[bool] = True

    @classmethod
    def create(cls, options: Mapping[str, ParamValue], space: SearchSpace, fidelity: Fidelity) -> LrSchedule:
        read_options(cls.name, options, cls.known_options)
        return cls(Rate.read(cls.name, options, space))

    def first_target(self, fidelity: Fidelity) -> int:
        return fidelity.max

    def decide(self, view: StudyView, slots: int, rng: np.random.Generator) -> Answer:
        diagnostics: dict[str, Any] = {}
        return carry_out(view, slots, self._plan(view.fidelity, diagnostics), self.rate.params, diagnostics)

    def _plan(self, fidelity: Fidelity, diagnostics: dict[str, Any]) -> Plan:
        T, every = fidelity.max, fidelity.report_every

        def at(share):
            return max(every, round(share * T / every) * every)

        warm = max(1, round(CFG["warm"] * T))
        # a candidate: (rate, schedule of its newest trunk, parent, forked_at)
        alive = [(peak, constant(peak, warm), None, 0) for peak in self.rate.grid(CFG["K"])]
        log = []
        for s, c, keep, *add in CFG["rounds"]:
            step, end = at(s), at(s + c)
            trunks = yield [Wanted(sch, step, "trunk", par, f) for _, sch, par, f in alive]
            ok = [(cand, r) for cand, r in zip(alive, trunks) if math.isfinite(r.loss)]
            shape = CFG.get("cshape", "linear")
            cooled = yield [Wanted(decay(cand[0], step, end, shape), end, "cool", r.trial, step) for cand, r in ok]
            ranked = sorted(((r.loss, cand, tr.trial) for (cand, tr), r in zip(ok, cooled)), key=lambda x: x[0])
            log.append([(round(l, 4), round(cd[0], 5)) for l, cd, _ in ranked])
            if not ranked:
                return "all diverged"
            alive = [cd for _, cd, _ in ranked[:keep]]
            best, number = ranked[0][1], ranked[0][2]
            for f in add[0] if add else ():
                new = best[0] * f
                if all(abs(math.log(new / cd[0])) > 0.2 for cd in alive):
                    alive.append((new, ((step, new),), number, step))
        p, sch, par, f = alive[0]
        for d, e, shape in CFG["ends"]:
            step = at(d)
            (r,) = yield [Wanted(sch, step, "trunk", par, f)]
            (c,) = yield [Wanted(decay(p, step, at(e), shape), at(e), "cool", r.trial, step)]
            log.append((d, e, shape, round(c.loss, 4)))
        diagnostics["log"] = log
        return "done " + json.dumps(log)
