"""The rounds of a scaling study: where it stands, read from its trials, and what it trains next.

The strategy's own trials, in order of number, are the first cell of the sweep, the other cells of the
sweep, and then rounds of one cell each; every part has a fixed number of runs, so that the place in the
plan follows from the count. A round is planned when nothing is active, from the trials older than it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import Any

import numpy as np

from search.decision import Answer, Finish, Launch
from search.errors import SearchError
from search.laws.base import Interval
from search.space import ParamValue
from search.strategies.common import launches_left, why_done
from search.strategies.scaling import Scaling
from search.strategies.scaling_law import Proposal, Run, Scale, Standing, off, proposal, standing
from search.strategies.scaling_space import Cell, Setting
from search.view import StudyView, TrialView

SWEEP_RUNS = 8
"""Of each cell of the first sweep."""
RUNS = 6
"""Of each cell after it."""
_SIZES = _LENGTHS = 3
"""Of the first sweep."""
_SIZES_APART, _LENGTHS_APART = 1.4, 1.9
"""Factors between the sizes and lengths of the first sweep: too near each other they tell no exponent."""
_WINDOW = 6.0
"""The other cells of the sweep look within this factor of the best of the first."""
_BEST = 2
"""Runs whose middle is the best of the first cell."""
_AROUND, _FURTHEST = 4.0, 8.0
"""Runs of a planned cell lie within a factor between these of the optimum that is foreseen: nearer they
differ by less than their noise, further away the surface is another one."""
_REST = 0.05
"""A share of the compute that is not worth another round."""
_BEYOND = 3
"""Rounds that may be spent on runs that carry no law yet, before the study gives up."""


@dataclass(frozen=True, slots=True)
class _Round:
    """What is trained next, from one cell or several: or why nothing is."""

    configurations: tuple[tuple[dict[str, ParamValue], str], ...]
    """With the reason of each."""
    done: str = ""
    """Why nothing is left to train."""


class Rounds:
    """One study as it stands."""

    def __init__(self, strategy: Scaling, view: StudyView) -> None:
        self.strategy = strategy
        self.searched = strategy.searched
        self.view = view
        self.own = [trial for trial in view.trials if trial.origin == "strategy"]
        self.sweep = _first_cells(
            self.searched.size.first(_SIZES, _SIZES_APART),
            self.searched.length.first(_LENGTHS, _LENGTHS_APART),
        )
        parts = [SWEEP_RUNS, (len(self.sweep) - 1) * SWEEP_RUNS]
        begun, part = 0, 0
        while begun + _runs_of(parts, part) <= len(self.own):
            begun += _runs_of(parts, part)
            part += 1
        self.part = part
        """0: the first cell; 1: the rest of the sweep; then rounds of one cell each."""
        self.launched = len(self.own) - begun
        """Trials of this part that were started."""
        before = self.own[begun].number if self.launched else math.inf
        self.older = [trial for trial in view.trials if trial.number < before]
        """What this part is planned from."""

    def decide(self, slots: int) -> Answer:
        """Launches of this round, for ``slots`` free workers."""
        active = any(trial.active for trial in self.view.trials)
        if self.part and not self.launched and active:
            return Answer(())
        planned, standing, expected = self._plan()
        diagnostics = {"scaling": self._diagnostics(standing, expected)}
        target = self.view.fidelity.max
        left = launches_left(self.view, target, self.view.budget.fidelity)
        wanted = slots if left is None else min(slots, left)
        launches = tuple(
            Launch(params, target, reason)
            for params, reason in islice(planned.configurations[self.launched :], wanted)
        )
        if launches or active:
            return Answer(launches, diagnostics)
        if planned.done or left == 0:
            why = planned.done or f"{why_done(self.view, target, False)}; {self._reached(standing)}"
            return Answer((Finish(why),), diagnostics)
        return Answer((), diagnostics)

    def _plan(self) -> tuple[_Round, Standing | None, Proposal | None]:
        missing = self._missing_metric()
        if missing:
            return _Round((), missing), None, None
        if self.part == 0:
            return self._first_cell(), None, None
        if self.part == 1:
            return self._rest_of_sweep(), None, None
        return self._round()

    def _first_cell(self) -> _Round:
        settings = self.searched.spread(self.searched.whole, self.view.seed, 0)
        reason = f"first sweep, cell 1 of {len(self.sweep)}, {{}}: spread over learning rate and batch"
        return _Round(self._configurations(self.sweep[0], settings, SWEEP_RUNS, reason))

    def _rest_of_sweep(self) -> _Round:
        cost = SWEEP_RUNS * sum(6 * self._n(size) * self._d(length) for size, length in self.sweep[1:])
        spent = self._spent()
        if spent + cost > self.strategy.flops:
            return _Round(
                (),
                f"{_number(self.strategy.flops)} FLOP do not pay for the first sweep: its first cell took "
                f"{_number(spent)}, the other {len(self.sweep) - 1} need about {_number(cost)}; "
                f"give more flops, or smaller {self.searched.size.name} and {self.searched.length.name}",
            )
        window, where = self._window()
        found: list[tuple[dict[str, ParamValue], str]] = []
        for place, cell in enumerate(self.sweep[1:], start=2):
            settings = self.searched.spread(window, self.view.seed, (place - 1) * SWEEP_RUNS)
            reason = f"first sweep, cell {place} of {len(self.sweep)}, {{}}: {where}"
            found += self._configurations(cell, settings, SWEEP_RUNS, reason)
        return _Round(tuple(found))

    def _window(self) -> tuple[tuple[Setting, Setting], str]:
        """Where the first cell was good."""
        searched = self.searched
        losses = sorted(
            (self._loss(trial), trial.number, trial)
            for trial in self.older
            if searched.cell(trial.params) == self.sweep[0] and math.isfinite(self._loss(trial))
        )
        if not losses:
            return (
                searched.whole,
                "spread over learning rate and batch, since no run of the first cell ended well",
            )
        best = [self._setting(trial) for _, _, trial in losses[:_BEST]]
        lr, batch = np.exp(np.log(best).mean(axis=0)).tolist()
        low = max(searched.lr.low, lr / _WINDOW), max(searched.batch.low, batch / _WINDOW)
        high = min(searched.lr.high, lr * _WINDOW), min(searched.batch.high, batch * _WINDOW)
        return (low, high), (
            f"within a factor of {_WINDOW:g} of {searched.lr.name} {_number(lr)}, {searched.batch.name} "
            f"{_number(batch)}, where the first was best"
        )

    def _round(self) -> tuple[_Round, Standing | None, Proposal | None]:
        strategy, runs = self.strategy, self._runs()
        try:
            now = standing(runs, strategy.target, self.view.seed)
        except SearchError as error:
            return self._without_law(error), None, None
        left = strategy.flops - self._spent()
        if now.within(strategy.within) and not now.grave:
            words = f"both intervals are within a factor of {strategy.within:g}: {self._reached(now)}"
            return _Round((), words), now, None
        cells = {(self._n(size), self._d(length)): (size, length) for size, length in self.searched.cells}
        if left < _REST * strategy.flops:
            words = f"the {_number(strategy.flops)} FLOP are spent; {self._reached(now)}"
            return _Round((), words), now, None
        try:
            found = proposal(runs, strategy.target, left, RUNS, tuple(cells), self.view.seed)
        except SearchError:
            words = (
                f"no new cell is paid for by the {_number(left)} FLOP that are left of "
                f"{_number(strategy.flops)}; {self._reached(now)}"
            )
            return _Round((), words), now, None
        cell = cells[found.n, found.d]
        reason = (
            f"round {self.part - 1}, {{}}: at the target {self._words(now.lr, now.batch)} now, expected "
            f"after it {self._words(found.lr, found.batch, factors=True)}"
        )
        more = self.searched.spread(self._around(found), self.view.seed, 1_000 + RUNS * self.part)
        return _Round(self._configurations(cell, more, RUNS, reason)), now, found

    def _without_law(self, error: SearchError) -> _Round:
        """The runs carry no law: more are made in the cell that has the fewest, a few times."""
        why = "; ".join(
            f"{m.message}{f' ({m.suggestion})' if m.suggestion else ''}" for m in error.mistakes
        )
        tried, left = self.part - 2, self.strategy.flops - self._spent()
        finite = dict.fromkeys(self.sweep, 0)
        for trial in self.older:
            cell = self.searched.cell(trial.params)
            if cell in finite and math.isfinite(self._loss(trial)):
                finite[cell] += 1
        cell = min(self.sweep, key=lambda each: finite[each])
        cost = RUNS * 6 * self._n(cell[0]) * self._d(cell[1])
        if tried >= _BEYOND or cost > left:
            return _Round((), f"the runs carry no law: {why}; {self._counts()}")
        # Divergence is the rule among what goes wrong, and lower rates mend it.
        lr, batch = self.searched.lr, self.searched.batch
        top = math.sqrt(lr.low * lr.high)
        more = self.searched.spread(
            ((lr.low, batch.low), (top, batch.high)), self.view.seed, 1_000 + self.part
        )
        reason = (
            f"round {self.part - 1}, {{}}: lower learning rates, since the runs carry no law yet: {why}"
        )
        return _Round(self._configurations(cell, more, RUNS, reason))

    def _around(self, found: Proposal) -> tuple[Setting, Setting]:
        """Where the runs of a proposed cell are: round the optimum that is foreseen there, as far as it may
        be off, and far enough to see losses rise."""
        ends = []
        for each, axis, unit in (
            (found.cell_lr, self.searched.lr, 1.0),
            (found.cell_batch, self.searched.batch, self.strategy.sequence_length),
        ):
            value = min(axis.high, max(axis.low, each.value / unit))
            below = min(_FURTHEST, max(_AROUND, each.value / each.low))
            above = min(_FURTHEST, max(_AROUND, each.high / each.value))
            ends.append((max(axis.low, value / below), min(axis.high, value * above)))
        (lr_low, lr_high), (batch_low, batch_high) = ends
        return (lr_low, batch_low), (lr_high, batch_high)

    def _configurations(
        self, cell: Cell, settings: Iterable[Setting], count: int, reason: str
    ) -> tuple[tuple[dict[str, ParamValue], str], ...]:
        """New configurations of a cell, each with its reason; ``{}`` in it is filled with the cell."""
        searched = self.searched
        seen = {searched.space.key(trial.params) for trial in self.older}
        # A person may have enqueued some of them since: those are passed over, the others stay.
        seen |= {
            searched.space.key(trial.params) for trial in self.view.trials if trial.origin != "strategy"
        }
        where = f"{searched.size.name} {cell[0]:g}, {searched.length.name} {cell[1]:g}"
        found = searched.new(cell, settings, seen, count)
        return tuple((params, reason.replace("{}", where, 1)) for params in found)

    def _missing_metric(self) -> str:
        """Why no law can be fitted to runs that do not say how large they are; "" if they do."""
        ended = [trial for trial in self.older if math.isfinite(self._loss(trial))]
        for metric in self.strategy.metrics:
            if ended and not any(_positive(trial.outcomes.get(metric)) for trial in ended):
                return (
                    f"no trial reports the metric {metric}, of which the law is made: report it, or name "
                    "another with the options n and d"
                )
        return ""

    @cached_property
    def _scales(self) -> tuple[Scale | None, Scale | None]:
        """N over sizes, D over lengths, as far as they were measured."""
        sizes: list[tuple[float, float]] = []
        lengths: list[tuple[float, float]] = []
        for trial in self.older:
            size, length = self.searched.cell(trial.params)
            n, d = (trial.outcomes.get(metric) for metric in self.strategy.metrics)
            if _positive(n):
                sizes.append((size, float(n or 0)))
            if _positive(d) and math.isfinite(self._loss(trial)):
                lengths.append((length, float(d or 0)))
        return Scale.of(sizes), Scale.of(lengths)

    def _n(self, size: float) -> float:
        scale = self._scales[0]
        return size if scale is None else scale(size)

    def _d(self, length: float) -> float:
        scale = self._scales[1]
        return length if scale is None else scale(length)

    def _spent(self) -> float:
        """FLOP of the trials that this part is planned from; imported ones were paid for elsewhere."""
        total = 0.0
        for trial in self.older:
            if trial.origin != "imported":
                size, length = self.searched.cell(trial.params)
                total += 6 * self._n(size) * self._d(length) * min(1.0, trial.step / self.view.fidelity.max)
        return total

    def _runs(self) -> tuple[Run, ...]:
        """The older trials that ended, well or not; one size has one N, one length one D."""
        runs = []
        for trial in self.older:
            loss = self._loss(trial)
            if math.isfinite(loss) or trial.failure == "diverged":
                size, length = self.searched.cell(trial.params)
                lr, batch = self._setting(trial)
                tokens = batch * self.strategy.sequence_length
                runs.append(Run(self._n(size), self._d(length), lr, tokens, loss))
        return tuple(runs)

    def _loss(self, trial: TrialView) -> float:
        """At the end of its training; infinite if it did not come to it."""
        if trial.status != "completed" or not trial.values:
            return math.inf
        return self.view.loss(trial.values[-1])

    def _setting(self, trial: TrialView) -> Setting:
        return float(trial.params[self.searched.lr.name]), float(trial.params[self.searched.batch.name])

    def _words(self, lr: Interval, batch: Interval, *, factors: bool = False) -> str:
        searched, unit = self.searched, self.strategy.sequence_length
        parts = []
        for name, each, scale in ((searched.lr.name, lr, 1.0), (searched.batch.name, batch, unit)):
            if factors:
                parts.append(f"a factor of {_number(off(each))} for {name}")
            else:
                value, low, high = (_number(x / scale) for x in (each.value, each.low, each.high))
                parts.append(f"{name} {value} ({low} to {high})")
        return ", ".join(parts)

    def _reached(self, now: Standing | None) -> str:
        """Where the study stands, in words."""
        if now is None:
            return f"no law is fitted yet; {self._counts()}"
        n, d = self.strategy.target
        words = f"at N {_number(n)}, D {_number(d)} {self._words(now.lr, now.batch)} at 90 %"
        widest = max(off(now.lr), off(now.batch))
        if widest > self.strategy.within:
            words += f", a factor of {_number(widest)} where {self.strategy.within:g} was asked for"
        if now.grave:
            codes = ", ".join(caution.code for caution in now.grave)
            words += f"; not to be taken for known ({codes}): {now.grave[0].message}"
        return f"{words}; {self._counts()}"

    def _counts(self) -> str:
        lost = sum(trial.status == "failed" for trial in self.older)
        gone = f", {lost} of them failed or diverged," if lost else ""
        return f"{len(self.older)} trials{gone} took {_number(self._spent())} FLOP"

    def _diagnostics(self, now: Standing | None, expected: Proposal | None) -> dict[str, Any]:
        told: dict[str, Any] = {
            "round": max(0, self.part - 1),
            "trials": len(self.older),
            "flops": self._spent(),
        }
        if now is not None:
            told |= now.to_json()
        if expected is not None:
            told["cell"] = [expected.n, expected.d]
            told["expected"] = {
                name: [each.low, each.value, each.high]
                for name, each in (("lr", expected.lr), ("batch", expected.batch))
            }
        return told


def _runs_of(parts: Sequence[int], part: int) -> int:
    return parts[part] if part < len(parts) else RUNS


def _first_cells(sizes: Sequence[float], lengths: Sequence[float]) -> list[Cell]:
    """The cheapest cells that tell a law: every size, every length, and less of the larger ones."""
    cells = [
        (size, length)
        for i, size in enumerate(sizes)
        for j, length in enumerate(lengths)
        if i + j < max(len(sizes), len(lengths))
    ]
    return sorted(cells, key=lambda cell: (cell[0] * cell[1], cell))


def _positive(value: float | None) -> bool:
    return value is not None and math.isfinite(value) and value > 0


def _number(value: float) -> str:
    return f"{value:.3g}"
