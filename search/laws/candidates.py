"""Cells that may be trained next, and plans of them: greedy by what they tell of a target, and grids."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from search.errors import Mistake, SearchError
from search.laws.base import Array

MOST_CELLS = 24
STEP = 0.5
"""Octaves between the values of N and D that are considered."""
APART = 0.45
"""Octaves in N or D by which a new cell differs from all others."""
LARGEST_PART = 1 / 3
"""Of the budget, that one cell of a greedy plan may take: no single cell should decide a law."""
RATIO_MARGIN = 2.0
"""Tokens to a parameter of new cells are within those of the runs and the target, and this factor."""
_GRID_SIDES = (2, 3)
"""Cells along N, and along D, of the grids that are judged."""


@dataclass(frozen=True, slots=True, eq=False)
class Quantity:
    """What is to be known at the target, and what cells tell of it."""

    covariance: Array
    """Shape (1 + c, 1 + c): of the target, then the cells."""
    errors: Array
    """Shape (c,): variances of observations of the cells."""
    floor: float
    """The target's own scatter, which no run elsewhere takes away."""

    def gains(self) -> Array:
        """Shape (c,): how far the logarithm of the target's variance falls with each cell."""
        now = self.covariance[0, 0]
        gone = self.covariance[0, 1:] ** 2 / (np.diag(self.covariance)[1:] + self.errors)
        return np.asarray(-np.log1p(-gone / (now + self.floor)))

    def after(self, cell: int) -> Quantity:
        """Once the cell is observed."""
        column = self.covariance[:, cell + 1]
        taken = np.outer(column, column) / (column[cell + 1] + self.errors[cell])
        return replace(self, covariance=self.covariance - taken)


def candidates(own: Array, n: float, d: float) -> Array:
    """Cells from the smallest run to the target, shape (c, 2), with plausible tokens to a parameter."""
    axes = []
    for values, target in ((own[:, 0], n), (own[:, 1], d)):
        low, high = np.log2(min(values.min(), target)), np.log2(max(values.max(), target))
        axes.append(2 ** np.linspace(low, high, max(2, round((high - low) / STEP) + 1)))
    return plausible(np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 2), own, n, d)


def plausible(cells: Array, own: Array, n: float, d: float) -> Array:
    """The cells with plausible tokens to a parameter, none of them larger or longer than the target and all
    runs."""
    most = np.maximum(own.max(axis=0), [n, d])
    cells = cells[(cells <= most * 2 ** (APART / 2)).all(axis=1)]
    ratios, known = cells[:, 1] / cells[:, 0], np.append(own[:, 1] / own[:, 0], d / n)
    fits = (ratios >= known.min() / RATIO_MARGIN) & (ratios <= known.max() * RATIO_MARGIN)
    return np.asarray(cells[fits])


def apart(cells: Array, others: Array) -> NDArray[np.bool_]:
    """Shape (c,): cells that differ from each of the others."""
    distance = np.abs(np.log2(cells)[:, None] - np.log2(others)[None]).max(-1)
    return np.asarray((distance > APART).all(axis=1))


def affordable(cells: Array, costs: Array, flops: float) -> tuple[Array, Array]:
    """The cells that take at most ``LARGEST_PART`` of the budget, or else those that it pays for at all."""
    if not 0 < flops < np.inf:
        raise SearchError([Mistake("/flops", f"is {flops:g}", "it must be above 0")])
    for most in (LARGEST_PART * flops, flops):
        kept = costs <= most
        if kept.any():
            return cells[kept], costs[kept]
    cheapest = f"{costs.min():.2g} FLOP" if len(costs) else "more than any budget"
    raise SearchError(
        [Mistake("/flops", f"{flops:.2g} FLOP pay for no runs", f"the cheapest cell takes {cheapest}")]
    )


def covariance(target: Array, cells: Array) -> Array:
    """Shape (1 + c, 1 + c), of draws: (k,) at the target and (k, c) at cells."""
    return np.cov(np.column_stack([target, cells]), rowvar=False)


def plans_of(
    quantities: Sequence[Quantity],
    cells: Array,
    costs: Array,
    own: Array,
    n: float,
    d: float,
    flops: float,
    repeats: int,
    *,
    grids: bool = True,
) -> list[Array]:
    """Plans worth judging, each the cells to train, the largest first: greedy ones, and ``grids``, whose
    cells need not be among ``cells``.

    ``repeats``: runs of each cell; several need cells that lie apart.
    """
    found = [
        cells[_greedy(list(quantities), cells, costs, flops, exclusive=repeats > 1, per_flop=per_flop)]
        for per_flop in (False, True)
    ]
    if grids:
        found += [_grid_within(own, n, d, flops / repeats, side) for side in _GRID_SIDES]
    if not any(len(plan) for plan in found):  # nothing tells much: the cell that tells most
        gains = np.sum([quantity.gains() for quantity in quantities], axis=0)
        found = [cells[[int(np.argmax(gains))]]]
    return [plan[np.argsort(-plan.prod(axis=1), kind="stable")] for plan in found if len(plan)]


def _greedy(
    quantities: list[Quantity],
    cells: Array,
    costs: Array,
    flops: float,
    *,
    exclusive: bool,
    per_flop: bool,
) -> list[int]:
    """Indices of cells in the order of their choice."""
    chosen: list[int] = []
    allowed, left = np.ones(len(cells), dtype=bool), flops
    while len(chosen) < MOST_CELLS:
        gains = np.sum([quantity.gains() for quantity in quantities], axis=0)
        gains[~allowed | (costs > left)] = -1.0
        if gains.max() <= 1e-3:
            break
        best = int(np.argmax(gains / costs if per_flop else gains))
        if gains[best] <= 1e-3:  # the rest of the budget is better spent on what tells more
            allowed[best] = False
            continue
        chosen.append(best)
        left -= costs[best]
        quantities = [quantity.after(best) for quantity in quantities]
        if exclusive:
            allowed &= apart(cells, cells[best : best + 1])
    return chosen


def _grid_within(own: Array, n: float, d: float, flops: float, side: int) -> Array:
    """The largest ``side`` by ``side`` grid towards the target that ``flops`` pay for, or no cells."""
    low = np.log(own.min(axis=0))
    span = np.log([n, d]) - low
    for reach in np.linspace(1.0, 0.1, 91):
        axes = np.exp(low[:, None] + reach * span[:, None] * np.linspace(0.0, 1.0, side))
        cells = np.stack(np.meshgrid(*axes), -1).reshape(-1, 2)
        if 6.0 * cells.prod(axis=1).sum() <= flops:
            return np.asarray(cells)
    return own[:0]
