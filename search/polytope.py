"""Where linear constraints leave little room: finding a point that holds them, and walking on from it.

Rows of a system are ``coefficients @ values <= bounds`` (or equalities) over the values of a space's
parameters in their own units. Some columns move, the others keep the values they have.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from search.domains import Choice, Fixed, Real, RealGrid, Whole
from search.parameters import SHARE_UNITS
from search.table import Array, Layout, Mask, decode_column, encode_column, grid_index, grid_values

_SMALL = 1e-12
"""Coefficients below this, after elimination, are rounding errors."""
_INTERIOR = 1e-6
"""By how much of a row's range a first point is kept from the boundary, where there is room."""

Numeric = Real | RealGrid | Whole


@dataclass(frozen=True)
class Solved:
    """Equalities solved for some columns: ``values[pivots] = constant - others @ values``."""

    pivots: npt.NDArray[np.intp]
    others: Array
    """Shape (pivots, p), 0 in the pivots' own columns."""
    constant: Array
    """Shape (pivots,)."""


@dataclass(frozen=True)
class System:
    """Linear constraints that apply together."""

    layout: Layout
    rows: Array
    """Inequalities, shape (r, p)."""
    bounds: Array
    equal_rows: Array
    """Equalities, shape (e, p); a simplex whose shares are named has its sum among them."""
    equal_bounds: Array
    moving: npt.NDArray[np.intp]
    """The columns that may change: the numeric ones that a row names and no condition reads."""

    @classmethod
    def of(cls, layout: Layout, coefficients: Array, bounds: Array, equality: Mask) -> System:
        """The system of some constraints; rows as in :class:`~search.constraints.Rules`."""
        equal_rows, equal_bounds = [*coefficients[equality]], [*bounds[equality]]
        named = (coefficients != 0).any(axis=0)
        for _, columns, _ in layout.groups:
            if named[columns].any():
                total = np.zeros(len(layout.parameters))
                total[columns] = 1.0
                equal_rows.append(total)
                equal_bounds.append(1.0)
                named[columns] = True
        read = {parent for conditions in layout.conditions for parent, _ in conditions}
        moving = [
            column
            for column in np.flatnonzero(named).tolist()
            if column not in read
            and not isinstance(layout.parameters[column].domain, Choice | Fixed)
            and layout.parameters[column].domain.size != 1
        ]
        p = len(layout.parameters)
        return cls(
            layout,
            coefficients[~equality],
            bounds[~equality],
            np.array(equal_rows).reshape(-1, p),
            np.array(equal_bounds),
            np.array(moving, dtype=np.intp),
        )

    def domain(self, column: int) -> Numeric:
        domain = self.layout.parameters[column].domain
        assert not isinstance(domain, Choice | Fixed)
        return domain

    def solved(self) -> Solved:
        """The equalities solved for one moving column each, continuous ones before grids.

        Of two that would do, the one with the larger reach is taken: it is less often driven out of its
        range. An equality that no moving column can serve is left to be checked.
        """
        p = self.equal_rows.shape[1]
        rows, constant = self.equal_rows.copy(), self.equal_bounds.copy()
        reach = np.zeros(p)
        for column in self.moving.tolist():
            domain = self.domain(column)
            # Any continuous column comes before any grid.
            reach[column] = (domain.high - domain.low) / (domain.high - domain.low + 1.0)
            reach[column] += 1.0 if isinstance(domain, Real) else 0.0
        pivots: list[int] = []
        used: list[int] = []
        for row in range(len(rows)):
            weight = np.where(np.abs(rows[row]) > _SMALL, reach, 0.0)
            weight[pivots] = 0.0
            pivot = int(np.argmax(weight))
            if weight[pivot] <= 0:
                continue
            constant[row] /= rows[row, pivot]
            rows[row] /= rows[row, pivot]
            for other in range(len(rows)):
                if other != row:
                    constant[other] -= rows[other, pivot] * constant[row]
                    rows[other] -= rows[other, pivot] * rows[row]
            pivots.append(pivot)
            used.append(row)
        others = rows[used].reshape(-1, p)
        others[:, pivots] = 0.0
        return Solved(np.array(pivots, dtype=np.intp), others, constant[used])

    def completed(self, values: Array, solved: Solved) -> Array:
        """``values``, shape (n, p), with the solved columns set; each on its grid, in its range or not."""
        values = values.copy()
        values[:, solved.pivots] = solved.constant - values @ solved.others.T
        for column in solved.pivots.tolist():
            values[:, column] = self._snapped(column, values[:, column])
        return values

    def feasible(self, values: Array, rng: np.random.Generator | None) -> Array | None:
        """One configuration's values, shape (p,), moved so that the system holds; None if that cannot be.

        A mixed-integer linear programme, in a random direction so that others find other points.
        """
        from scipy.optimize import Bounds, LinearConstraint, milp  # heavy: only when it is needed

        low = np.array([self.domain(c).low for c in self.moving.tolist()], dtype=np.float64)
        unit, high, whole = np.empty_like(low), np.empty_like(low), np.zeros(len(low))
        for at, column in enumerate(self.moving.tolist()):
            domain = self.domain(column)
            # A variable is an index on a grid, and a place in [0, 1] in a continuous range.
            whole[at] = not isinstance(domain, Real)
            unit[at] = domain.high - domain.low if isinstance(domain, Real) else domain.step
            high[at] = 1.0 if isinstance(domain, Real) else domain.size - 1
        fixed = values.copy()
        fixed[self.moving] = low
        objective = np.zeros(len(low)) if rng is None else rng.standard_normal(len(low))
        for margin in (_INTERIOR, 0.0):
            bounds: list[object] = []
            for rows, limits, equal in (
                (self.rows, self.bounds, False),
                (self.equal_rows, self.equal_bounds, True),
            ):
                if len(rows):
                    slope = rows[:, self.moving] * unit
                    scale = np.maximum(np.abs(slope * high).sum(axis=1), 1e-300)
                    left = (limits - rows @ fixed) / scale
                    upper = left if equal else left - margin
                    bounds.append(
                        LinearConstraint(slope / scale[:, None], upper if equal else -np.inf, upper)
                    )
            if len(low) == 0:
                holds = (self.rows @ fixed <= self.bounds + 1e-9 * (1 + np.abs(self.bounds))).all()
                missed = np.abs(self.equal_rows @ fixed - self.equal_bounds)
                return fixed if holds and (missed <= 1e-9 * (1 + np.abs(self.equal_bounds))).all() else None
            found = milp(objective, integrality=whole, bounds=Bounds(0.0, high), constraints=bounds)
            if found.x is not None:
                places = np.where(whole > 0, np.rint(found.x), np.clip(found.x, 0.0, 1.0))
                fixed[self.moving] = low + unit * places
                for column in self.moving.tolist():
                    fixed[column] = self._snapped(column, fixed[column : column + 1])[0]
                return fixed
        return None

    def walk(self, values: Array, sweeps: int, rng: np.random.Generator) -> Array:
        """``values``, shape (n, p), after some sweeps of Gibbs sampling within the system.

        Each column in turn is drawn anew from what the others leave it, uniformly on its own scale (log,
        grid): for a fixed start and many sweeps, the uniform distribution over what is legal.
        """
        solved = self.solved()
        share = np.zeros(values.shape[1])
        for _, columns, _ in self.layout.groups:
            share[columns] = 2 / SHARE_UNITS
        # Substitute the solved columns, and keep them in their ranges.
        rows = self.rows.copy()
        bounds = self.bounds - np.abs(self.rows) @ share  # Room for the rounding of shares.
        weights = rows[:, solved.pivots]
        rows, bounds = rows - weights @ solved.others, bounds - weights @ solved.constant
        rows[:, solved.pivots] = 0.0
        ranges = [self.domain(column) for column in solved.pivots.tolist()]
        rows = np.vstack([rows, -solved.others, solved.others])
        bounds = np.concatenate(
            [
                bounds,
                np.array([domain.high for domain in ranges]) - solved.constant,
                solved.constant - np.array([domain.low for domain in ranges]),
            ]
        )
        free = np.setdiff1d(self.moving, solved.pivots)
        for _ in range(sweeps):
            for column in rng.permutation(free).tolist():
                low, high = _interval(rows, bounds, values, column)
                drawn = self._drawn(column, low, high, rng)
                changed = values.copy()
                changed[:, column] = np.where(np.isnan(drawn), values[:, column], drawn)
                changed = self.completed(changed, solved)
                exact = solved.constant - changed @ solved.others.T
                size = 1e-9 * (1 + np.abs(exact))
                fits = np.asarray((np.abs(exact - changed[:, solved.pivots]) <= size).all(axis=1))
                values = np.where(fits[:, None], changed, values)
        return values

    def _snapped(self, column: int, values: Array) -> Array:
        """Values on the grid, or at the ends, of their domain."""
        domain = self.domain(column)
        if isinstance(domain, Real):
            # A rounding error beyond an end is none.
            ends = np.clip(values, domain.low, domain.high)
            return np.where(np.abs(values - ends) <= 1e-9 * (domain.high - domain.low), ends, values)
        if isinstance(domain, RealGrid):
            return np.where(
                (values < domain.low - domain.step / 2) | (values > domain.high + domain.step / 2),
                values,
                grid_values(domain, grid_index(domain, values)),
            )
        return domain.low + domain.step * np.rint((values - domain.low) / domain.step)

    def _drawn(self, column: int, low: Array, high: Array, rng: np.random.Generator) -> Array:
        """A value between ``low`` and ``high`` for each; NaN where there is none."""
        domain = self.domain(column)
        low, high = np.maximum(low, domain.low), np.minimum(high, domain.high)
        if isinstance(domain, Real):
            ends = (
                encode_column(domain, np.minimum(low, domain.high)),
                encode_column(domain, np.maximum(high, domain.low)),
            )
        else:
            step = domain.step
            first = np.ceil((low - domain.low) / step - 1e-9)
            last = np.floor((high - domain.low) / step + 1e-9)
            low, high = first, last
            if isinstance(domain, Whole) and domain.log:
                with np.errstate(invalid="ignore"):
                    ends = (
                        encode_column(domain, domain.low + first - 0.5),
                        encode_column(domain, domain.low + np.maximum(last, 0) + 0.5),
                    )
            else:
                ends = first / domain.size, (last + 1) / domain.size
        points = ends[0] + rng.random(len(low)) * (ends[1] - ends[0])
        return np.where(low <= high, decode_column(domain, np.clip(points, 0.0, 1.0)), np.nan)


def _interval(rows: Array, bounds: Array, values: Array, column: int) -> tuple[Array, Array]:
    """What the rows leave to one column, given the others: its ends for each configuration."""
    slope = rows[:, column]
    slack = bounds - values @ rows.T + slope * values[:, [column]]
    up, down = slope > _SMALL, slope < -_SMALL
    high = (slack[:, up] / slope[up]).min(axis=1, initial=np.inf)
    low = (slack[:, down] / slope[down]).max(axis=1, initial=-np.inf)
    return low, high
