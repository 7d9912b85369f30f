"""Which runs to add: those that shrink the interval at a target most, for so much compute.

The bootstrap draws of a law say how its answers at the target and at a new cell go together. To train a
cell is to observe the law there, with an error: what the runs of the cell leave open, and the cell's own
scatter about the law. By the rules of normal variables an observation with error variance ``r`` takes from
the variance of the target ``cov(target, cell)^2 / (var(cell) + r)``; all cells that are considered are
updated likewise, so that the next one is chosen knowing the first (sequential c-optimal design; Chaloner
and Verdinelli 1995, "Bayesian experimental design"). Cells are chosen greedily, once by what they tell and
once by what they tell for their compute, 6 N D a run.

These plans, and grids towards the target, are then judged by what matters: for each, runs are drawn from
the law, the law is fitted again, and the plan whose interval at the target is the narrowest is taken. From
now to the end of a plan the interval is interpolated by the compute spent.

Around a cell's predicted optimum runs lie in the middle, on the axes and in the corners (a central
composite design), as far out as tells the optimum best by the law's own surface.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from search.errors import Mistake, SearchError
from search.laws.base import Array, Interval, Progress, Runs
from search.laws.candidates import (
    Quantity,
    affordable,
    apart,
    candidates,
    covariance,
    plans_of,
    plausible,
)
from search.laws.joint import AMPLITUDE, MINIMUM, TRUST
from search.laws.loss import PARAMETERS, LossFit, check_target, fit_loss
from search.laws.optimum import fitted
from search.laws.optimum_law import OptimumLaw

RUNS_PER_CELL = 6
_RADII = (0.35, 0.5, 0.7, 1.0, 1.4)
"""Distances of runs from the predicted optimum that are tried, in log units."""
_POSITIONS = ((0, 0), (1, 0), (-1, 0), (0, 1), (0, -1), (0.7, 0.7), (-0.7, -0.7), (0.7, -0.7), (-0.7, 0.7))
"""Of a cell's runs, in (log lr, log batch) over the radius; the first so many are used."""
_UNKNOWN = 1.0
"""Prior standard deviation of a cell's optimum about its law, in log units."""
LEAST_SCATTER = 0.05
"""Cells are taken to scatter about a law of the optimum by this much, in log units, at least."""
_ANY_LOSS = 3.0
"""Only losses over the lowest of a cell tell of the optimum."""
_REFITS, _REFIT_DRAWS = 2, 60
"""Data sets drawn from a law to judge a plan, and bootstrap draws of their fits."""
_STEP_SIZE = 1e-3
"""Of numeric derivatives of the surface."""
_SHIFTS = 5
"""Bootstrap draws over which the radius is chosen: the optimum need not be where it is predicted."""


@dataclass(frozen=True, slots=True)
class PlannedRun:
    """One run to train, and the intervals that are expected at the target once it and all before it are."""

    n: float
    d: float
    lr: float | None
    batch: float | None
    """In tokens; a plan for a loss law alone leaves both to the user."""
    flops: float
    lr_after: Interval | None = None
    batch_after: Interval | None = None
    loss_after: Interval | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """Runs, the largest first, and the intervals at the target before them."""

    n: float
    d: float
    lr: Interval | None
    batch: Interval | None
    loss: Interval | None
    runs: tuple[PlannedRun, ...]

    @property
    def flops(self) -> float:
        """Of all runs."""
        return sum(run.flops for run in self.runs)

    @property
    def cells(self) -> int:
        """Distinct (N, D)."""
        return len({(run.n, run.d) for run in self.runs})


def plan_optimum(
    law: OptimumLaw,
    runs: Runs,
    n: float,
    d: float,
    flops: float,
    runs_per_cell: int = RUNS_PER_CELL,
    seed: int = 0,
    among: Array | None = None,
    progress: Progress = lambda share: None,
) -> Plan:
    """The cells that shrink the intervals of the best learning rate and batch at (n, d) most, within
    ``flops``.

    ``runs``: those that the law was fitted to. ``among``: the only cells (N, D) that can be trained, shape
    (c, 2); without them, all from the smallest run to the target. Raises SearchError for a target or a
    budget that is not above 0, a budget that does not pay for the cheapest cell, fewer than 5 or more than
    9 runs in a cell, or a law without a surface. ``progress`` may raise an error of its own to give the
    plan up.
    """
    check_target(n=n, d=d)
    if not 5 <= runs_per_cell <= len(_POSITIONS):
        raise SearchError([Mistake("/runs_per_cell", f"is {runs_per_cell}", "5 to 9")])
    own = np.array([[cell.n, cell.d] for cell in law.cells])
    cells = candidates(own, n, d) if among is None else plausible(among, own, n, d)
    cells = cells[apart(cells, own)]
    costs = runs_per_cell * 6.0 * cells.prod(axis=1)
    cells, costs = affordable(cells, costs, flops)
    target = law.drawn_optima(n, d)
    drawn = np.stack([law.drawn_optima(*cell) for cell in cells.tolist()], 1)
    errors = np.array([_site(law, cell[0], cell[1], runs_per_cell)[1] for cell in cells.tolist()])
    scatter = np.maximum(law.scatter, LEAST_SCATTER) ** 2
    quantities = [
        Quantity(
            covariance(target[:, axis], drawn[:, :, axis]),
            errors[:, axis] + scatter[axis],
            float(scatter[axis]),
        )
        for axis in (0, 1)
    ]
    plans = plans_of(quantities, cells, costs, own, n, d, flops, runs_per_cell, grids=among is None)
    widths = []
    for at, added in enumerate((own[:0], *plans)):
        told = _part(progress, at, 1 + len(plans))
        widths.append(_refitted_optimum(law, runs, added, runs_per_cell, n, d, seed, told))
    best = int(np.argmin([np.log(width).sum() for width in widths[1:]]))
    lr_now, batch_now = law.optimum(n, d)
    share = widths[best + 1] / widths[0]
    planned = []
    added = plans[best]
    spent = np.cumsum(np.repeat(added.prod(axis=1), runs_per_cell))
    for index, cell in enumerate(added.tolist()):
        for run, (lr, batch) in enumerate(np.exp(_site(law, cell[0], cell[1], runs_per_cell)[0]).tolist()):
            done = spent[index * runs_per_cell + run] / spent[-1]
            planned.append(
                PlannedRun(
                    n=cell[0],
                    d=cell[1],
                    lr=lr,
                    batch=batch,
                    flops=6.0 * cell[0] * cell[1],
                    lr_after=_shrunk(lr_now, float(share[0] ** done)),
                    batch_after=_shrunk(batch_now, float(share[1] ** done)),
                )
            )
    return Plan(n, d, lr_now, batch_now, None, tuple(planned))


def _refitted_optimum(
    law: OptimumLaw,
    runs: Runs,
    cells: Array,
    runs_per_cell: int,
    n: float,
    d: float,
    seed: int,
    progress: Progress,
) -> Array:
    """Widths of the intervals of log lr and log batch at the target, shape (2,), with the cells trained.

    Their runs are drawn from the law, each cell with a scatter of its own; the means of several fits.
    """
    widths = []
    for draw in range(_REFITS):
        rng = np.random.default_rng([seed, draw])
        trained = [_drawn_cell(law, cell[0], cell[1], runs_per_cell, rng) for cell in cells.tolist()]
        have = np.stack([runs.n, runs.d, runs.lr, runs.batch, runs.loss])
        all_n, all_d, lr, batch, loss = np.concatenate([have, *trained], axis=1)
        together = Runs(n=all_n, d=all_d, lr=lr, batch=batch, loss=loss)
        options = {"lr": law.lr_form, "batch": law.batch_form, "draws": _REFIT_DRAWS, "forms": False}
        found = fitted(together, options, seed + draw, _part(progress, draw, _REFITS)).optimum(n, d)
        widths.append(np.log([each.high / each.low for each in found]))
    return np.asarray(np.exp(np.mean(np.log(widths), axis=0)))


def _drawn_cell(law: OptimumLaw, n: float, d: float, runs: int, rng: np.random.Generator) -> Array:
    """A cell's runs drawn from the law: rows N, D, learning rates, batches, losses."""
    at = np.exp(_site(law, n, d, runs)[0])
    moved = np.exp(np.maximum(law.scatter, LEAST_SCATTER) * rng.standard_normal(2))
    excess = law.surface(n, d, at[:, 0] / moved[0], at[:, 1] / moved[1])
    loss = _ANY_LOSS * (1 + excess) * (1 + law.noise * rng.standard_normal(runs))
    return np.stack([np.full(runs, n), np.full(runs, d), at[:, 0], at[:, 1], loss])


def plan_loss(
    law: LossFit,
    n: float,
    d: float,
    flops: float,
    seed: int = 0,
    progress: Progress = lambda share: None,
) -> Plan:
    """The runs that shrink the interval of the loss at (n, d) most, within ``flops``; they may repeat a
    cell.

    Greedy plans and a grid towards the target are judged by fits to runs drawn from the law; so is the
    interval that is expected in the end. Raises SearchError for a target or a budget that is not above 0,
    or a budget that pays for no run.
    """
    check_target(n=n, d=d)
    own = np.column_stack([law.cells_n, law.cells_d])
    cells = candidates(own, n, d)
    costs = 6.0 * cells.prod(axis=1)
    cells, costs = affordable(cells, costs, flops)
    drawn = np.log(np.stack([law.loss(x[0], x[1], law.draws) for x in cells.tolist()], 1))
    target = np.log(law.loss(n, d, law.draws))
    # Of a robust fit a run tells less than of least squares, and residuals are smaller than the noise.
    error = np.pi / 2 * law.spread**2 * len(own) / max(len(own) - len(PARAMETERS), 1)
    first = Quantity(covariance(target, drawn), np.full(len(cells), error), 0.0)
    plans = plans_of([first], cells, costs, own, n, d, flops, 1)
    now, *widths = [
        _refitted_width(law, own, added, n, d, seed, _part(progress, at, 1 + len(plans)))
        for at, added in enumerate((own[:0], *plans))
    ]
    best = int(np.argmin(widths))
    before = law.predict(n, d).loss
    # The share of its width that the interval loses with each run, by its share of all compute.
    added = plans[best][np.argsort(-plans[best].prod(axis=1), kind="stable")]
    spent = np.cumsum(added.prod(axis=1)) / added.prod(axis=1).sum()
    runs = tuple(
        PlannedRun(
            n=float(cell[0]),
            d=float(cell[1]),
            lr=None,
            batch=None,
            flops=6.0 * float(cell.prod()),
            loss_after=_shrunk(before, float((widths[best] / now) ** share)),
        )
        for cell, share in zip(added, spent, strict=True)
    )
    return Plan(n, d, None, None, before, runs)


def _refitted_width(
    law: LossFit, own: Array, added: Array, n: float, d: float, seed: int, progress: Progress
) -> float:
    """The width of the interval of log loss at the target, the mean of fits to runs drawn from the law."""
    cells = np.concatenate([own, added])
    nothing = np.full(len(cells), np.nan)
    noise = law.spread * np.sqrt(len(own) / max(len(own) - len(PARAMETERS), 1))
    true = np.array([float(law.loss(x[0], x[1])[0]) for x in cells.tolist()])
    widths = []
    for draw in range(_REFITS):
        rng = np.random.default_rng([seed, draw])
        loss = true * np.exp(rng.normal(0.0, noise, len(cells)))
        runs = Runs(n=cells[:, 0], d=cells[:, 1], lr=nothing, batch=nothing, loss=loss)
        told = _part(progress, draw, _REFITS)
        found = fit_loss(runs, {"draws": _REFIT_DRAWS}, seed + draw, told).predict(n, d).loss
        widths.append(np.log(found.high / found.low))
    return float(np.exp(np.mean(np.log(widths))))


def _site(law: OptimumLaw, n: float, d: float, runs: int) -> tuple[Array, Array]:
    """The runs of a cell (log lr, log batch), shape (runs, 2), and the variances of its optimum, shape
    (2,).

    The radius is the one that leaves the least variance over where the optimum may be.
    """
    middle = np.log([law.lr(N=n, D=d, C=6 * n * d), law.batch(N=n, D=d, C=6 * n * d)])
    shifts = law.drawn_optima(n, d)[:_SHIFTS] - middle
    best: tuple[float, Array, Array] | None = None
    for radius in _RADII:
        offsets = radius * np.array(_POSITIONS[:runs])
        errors = _errors(law, n, d, middle, offsets - shifts[:, None]).mean(axis=0)
        score = float(np.log(errors).sum())
        if best is None or score < best[0]:
            best = score, middle + offsets, errors
    assert best is not None
    return best[1], best[2]


def _errors(law: OptimumLaw, n: float, d: float, middle: Array, z: Array) -> Array:
    """Variances of a cell's optimum once its runs, at ``z`` (shifts, runs, 2) off it, are trained: (shifts,
    2).

    The linearized fit of one cell: its lowest loss, its amplitude and the place of its optimum are unknown,
    the shape is known; residuals weigh as in the joint fit.
    """
    steps = _STEP_SIZE * np.array([[0, 0], [1, 0], [-1, 0], [0, 1], [0, -1]])
    at = middle + z[:, None] + steps[None, :, None]
    excess = law.surface(n, d, np.exp(at[..., 0]), np.exp(at[..., 1]))
    value = excess[:, 0]
    slopes = [(excess[:, up] - excess[:, up + 1]) / (2 * _STEP_SIZE) for up in (1, 3)]
    scale = np.sqrt(max(law.noise, 1e-5) ** 2 + (TRUST * value) ** 2)
    columns = np.stack([np.ones_like(value), value, *slopes], -1) / scale[..., None]
    known = np.diag([1 / MINIMUM**2, 1 / AMPLITUDE**2, 1 / _UNKNOWN**2, 1 / _UNKNOWN**2])
    inverse = np.linalg.inv(known + np.swapaxes(columns, 1, 2) @ columns)
    return np.asarray(inverse[:, [2, 3], [2, 3]])


def _part(progress: Progress, at: int, of: int) -> Progress:
    """The progress of part ``at`` of so many equal ones, told as that of the whole."""
    return lambda share: progress((at + share) / of)


def _shrunk(interval: Interval, share: float) -> Interval:
    """The interval at ``share`` of its width, in logarithms."""
    share = min(share, 1.0)
    value = interval.value
    return Interval(
        value * (interval.low / value) ** share, value, value * (interval.high / value) ** share
    )
