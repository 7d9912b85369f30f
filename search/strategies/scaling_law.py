"""What the runs of a scaling study say of its target: the law fitted to them, and the cell to train next.

Everything here is a pure function of the runs, and is kept for a while, since a study asks again for every
free worker of a round.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from search.laws.base import Array, Caution, Interval, Runs
from search.laws.candidates import affordable, apart, plausible
from search.laws.design import Plan, plan_optimum
from search.laws.optimum import fitted
from search.laws.optimum_law import WIDE, OptimumLaw
from search.laws.table import runs_from_columns

_FIT: Mapping[str, Any] = {"forms": False}
"""As the service fits the study in the end, with the same seed: the law then says what the study said."""
_FORESEEN = 0.3
"""This share of the new cells may be trained, however little is known of their optima."""
_ROLES = {name: name for name in ("n", "d", "lr", "batch", "loss", "diverged")}


@dataclass(frozen=True, slots=True)
class Run:
    """A run that has ended."""

    n: float
    d: float
    lr: float
    batch: float
    """In tokens."""
    loss: float
    """Infinite if it diverged."""


def off(interval: Interval) -> float:
    """By which factor the value may be off, either way."""
    return max(interval.high / interval.value, interval.value / interval.low)


@dataclass(frozen=True, slots=True)
class Standing:
    """What is known of the best learning rate and batch at the target."""

    lr: Interval
    batch: Interval
    """In tokens."""
    grave: tuple[Caution, ...]
    """Why these must not be taken for known, however narrow they are."""

    def within(self, factor: float) -> bool:
        """Whether both intervals lie within this factor of their values."""
        return max(off(self.lr), off(self.batch)) <= factor

    def to_json(self) -> dict[str, Any]:
        return {
            **{
                name: [each.low, each.value, each.high]
                for name, each in (("lr", self.lr), ("batch", self.batch))
            },
            "grave": {caution.code: caution.message for caution in self.grave},
        }


@dataclass(frozen=True, slots=True)
class Proposal:
    """A cell to train next."""

    n: float
    d: float
    cell_lr: Interval
    cell_batch: Interval
    """Of the cell itself, as the law foresees it; the batch in tokens."""
    lr: Interval
    batch: Interval
    """At the target, as expected once it is trained."""


def standing(runs: tuple[Run, ...], target: tuple[float, float], seed: int) -> Standing:
    """Raises :class:`~search.errors.SearchError` if the runs carry no law."""
    law, _ = _law(runs, seed)
    prediction = law.predict(*target)
    grave = {caution.code: caution for caution in prediction.cautions if caution.grave}
    return Standing(prediction.lr, prediction.batch, tuple(grave.values()))


@lru_cache(maxsize=16)
def proposal(
    runs: tuple[Run, ...],
    target: tuple[float, float],
    flops: float,
    runs_per_cell: int,
    cells: tuple[tuple[float, float], ...],
    seed: int,
) -> Proposal:
    """The first cell of the plan that shrinks the intervals at the target most, for the ``flops`` left.

    ``cells``: those (N, D) that can be trained. Raises :class:`~search.errors.SearchError` if none of them
    is new and paid for.
    """
    law, read = _law(runs, seed)
    with threadpool_limits(limits=1):
        near = _foreseen(law, _new(law, np.array(cells), target, flops, runs_per_cell))
        plan: Plan = plan_optimum(law, read, *target, flops, runs_per_cell, seed, near)
    last = plan.runs[runs_per_cell - 1]  # of its first cell
    assert last.lr_after is not None
    assert last.batch_after is not None
    return Proposal(last.n, last.d, *law.optimum(last.n, last.d), last.lr_after, last.batch_after)


def _new(
    law: OptimumLaw, cells: Array, target: tuple[float, float], flops: float, runs_per_cell: int
) -> Array:
    """The cells that were not trained, that lead to the target, and that ``flops`` pay for."""
    own = np.array([[cell.n, cell.d] for cell in law.cells])
    new = plausible(cells, own, *target)
    new = new[apart(new, own)]
    paid, _ = affordable(new, runs_per_cell * 6.0 * new.prod(axis=1), flops)
    return paid


def _foreseen(law: OptimumLaw, cells: Array) -> Array:
    """The cells whose own optimum is foreseen, or a share of them that is foreseen best.

    Runs about an optimum that is somewhere else tell little, and cost most in the largest cells.
    """
    ends = [law.optimum(*cell) for cell in cells.tolist()]
    widths = np.array([max(each.high / each.low for each in own) for own in ends])
    return np.asarray(cells[widths <= max(WIDE, float(np.quantile(widths, _FORESEEN)))])


@lru_cache(maxsize=16)
def _law(runs: tuple[Run, ...], seed: int) -> tuple[OptimumLaw, Runs]:
    columns: Mapping[str, list[Any]] = {
        **{name: [getattr(run, name) for run in runs] for name in ("n", "d", "lr", "batch", "loss")},
        "diverged": [not math.isfinite(run.loss) for run in runs],
    }
    read = runs_from_columns(columns, _ROLES, batch_unit="tokens")
    with threadpool_limits(limits=1):
        return fitted(read, _FIT, seed, lambda _: None), read


@dataclass(frozen=True)
class Scale:
    """A quantity over a parameter, such as N over the width: measured at some values, elsewhere a line
    through its neighbours in the logarithms."""

    at: Array
    """Values of the parameter, rising, shape (k,)."""
    measured: Array
    """Shape (k,)."""

    @classmethod
    def of(cls, pairs: list[tuple[float, float]]) -> Scale | None:
        """From (value, measurement) pairs, the median where there are several; None without any."""
        if not pairs:
            return None
        values = sorted({value for value, _ in pairs})
        return cls(
            np.array(values),
            np.array([np.median([m for value, m in pairs if value == own]) for own in values]),
        )

    def __call__(self, value: float) -> float:
        """With one measurement alone, it is taken to grow like the parameter itself."""
        known = np.flatnonzero(self.at == value)
        if len(known):
            return float(self.measured[known[0]])
        if len(self.at) == 1:
            return float(self.measured[0] * value / self.at[0])
        right = int(np.clip(np.searchsorted(self.at, value), 1, len(self.at) - 1))
        x, y = np.log(self.at[right - 1 : right + 1]), np.log(self.measured[right - 1 : right + 1])
        slope = (y[1] - y[0]) / (x[1] - x[0])
        return float(np.exp(y[0] + slope * (math.log(value) - x[0])))
