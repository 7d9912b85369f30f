"""The family ``optimum``: best learning rate and batch as power laws of N and D, and how sure they are.

The default estimator is the joint fit (:mod:`search.laws.joint`); see :mod:`search.laws.estimators` for
the others. Uncertainty is by the Bayesian bootstrap (Rubin 1981): each draw fits again from the full
fit's answer, with random weights of the cells and of the runs in them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from search.laws import estimators, forms, optimum_loss
from search.laws.base import Array, Caution, Family, Progress, Runs
from search.laws.cautions import of_runs
from search.laws.cells import Cells, gather
from search.laws.joint import Design, Prior, Problem, State, start
from search.laws.loss import LossFit
from search.laws.optimum_cautions import of_bends, of_cells, of_exponents
from search.laws.optimum_law import Alternative, CellFit, OptimumLaw
from search.laws.optimum_options import JOINT, Options, checked
from search.laws.surface import SHAPE, TERMS

FORMS = ((forms.N_D, forms.N_D), (forms.N_D, forms.D), (forms.C, forms.D), (forms.C, forms.C))
"""Of lr and batch: those whose answers are the spread across forms."""
RUN_VARIANCE = 2 / 3
"""Of the weights of runs in the bootstrap, of mean one. Cells' weights alone, of variance one, cover
too little where there are few cells, for all share the surface; with one here, too, planted laws are
covered too often (measured: docs/LAWS.md)."""
REFUTED = 10.0
"""A form whose objective is higher than the best's by this (a log likelihood, but for the robustness)
is refuted."""
EDGE = 0.02
"""Of the width of a cell's grid: an optimum this near its edge, or beyond, is on the edge."""

SLOPES = (1.5, 0.0, -0.1, 0.05, 0.0, 1.1)
"""Where slopes of the shape begin, and are weakly held, (log lr, log batch) each: instability, too
little movement, too few steps. The fourth term, noise, balances them."""
SLOPE_DEVIATION = 0.8
LOG_WEIGHTS = (-5.3, -1.6, -5.8, -4.2)
WEIGHT_DEVIATION = 2.0
PLACE_DEVIATION = 2.0
"""Of the optimum in the middle of the cells about the best runs there, in log units."""
AMPLITUDE_DEVIATION = 0.3
"""Of the exponents of the amplitude in N and D, about 0."""
SHAPE_SPREAD = 1.7
"""By so much more than its deviation the prior of the shape differs between draws: its mean was read off
one family of models, and where runs are few it pulls the optimum (measured: docs/LAWS.md)."""
_STARTS = (0.0, -1.5, 1.5)
"""Changes of the log weights from which the fit starts."""
_FIRST_STEPS, _STEPS, _DRAW_STEPS = 15, 60, 12
"""Of all starts, of the best one then, and of a draw, which begins at the full fit."""
_RUNS_AT_ONCE = 20_000
"""Runs times draws that are solved together: more take more memory, and no less time."""


def fitted(runs: Runs, options: Mapping[str, Any], seed: int, progress: Progress) -> OptimumLaw:
    """Fit the laws of the optimum: a :class:`~search.laws.base.Family`.

    Options: ``estimator`` (``joint``, ``cells``, ``pool``, ``argmin``), ``lr`` (``N,D`` or ``C``),
    ``batch`` (``N,D``, ``D`` or ``C``), ``draws`` (of the bootstrap, 20 to 5000), ``forms`` (whether
    other forms and estimators, and the loss at the optimum, are fitted, too).
    """
    chosen = checked(options)
    cells = gather(runs)
    centre = (float(np.log(cells.n).mean()), float(np.log(cells.d).mean()))
    rng = np.random.default_rng(seed)
    progress(0.0)
    if chosen.estimator == JOINT:
        fit = _joint(cells, chosen, centre, rng, progress)
    else:
        fit = _other(cells, chosen, centre, rng, progress)
    loss, no_loss = _loss(cells, fit) if chosen.forms else (None, ())
    law = OptimumLaw(
        estimator=chosen.estimator,
        lr_form=chosen.lr,
        batch_form=chosen.batch,
        centre=centre,
        shared=_plain(fit.shared),
        draws=tuple(map(_plain, fit.draws)),
        scatter=fit.scatter,
        noise=fit.noise,
        alternatives=_alternatives(cells, chosen, centre) if chosen.forms else (),
        cells=fit.cells,
        runs=len(cells.of),
        diverged=max((len(column) for column in runs.diverged.values()), default=0),
        cautions=(),
        loss=loss,
    )
    progress(1.0)
    told = (*of_runs(runs), *of_cells(cells, fit.cells), *of_exponents(law), *of_bends(fit.cells), *no_loss)
    return law.with_cautions(told)


@dataclass(frozen=True, slots=True, eq=False)
class _Fit:
    """What an estimator finds."""

    shared: Array
    """(p,)"""
    draws: Array
    """(k, p)"""
    scatter: tuple[float, float]
    noise: float
    cells: tuple[CellFit, ...]
    minima: tuple[Array, Array] | None
    """(k, c) lowest losses of the cells in each draw, and (k, c) their weights there; None if the
    estimator does not know them."""


def _loss(cells: Cells, fit: _Fit) -> tuple[LossFit | None, tuple[Caution, ...]]:
    """The law of the loss at the optimum, or why there is none."""
    if fit.minima is None:
        message = "the loss at the optimum is not foreseen: of the estimators only joint tells it"
        return None, (Caution(optimum_loss.UNKNOWN, message),)
    why = optimum_loss.missing(cells.n, cells.d)
    if why is not None:
        return None, (why,)
    lowest = np.array([cell.loss for cell in fit.cells])
    return optimum_loss.fit_minima(cells.n, cells.d, lowest, *fit.minima), ()


def _joint(
    cells: Cells, chosen: Options, centre: tuple[float, float], rng: np.random.Generator, progress: Progress
) -> _Fit:
    problem, prior = _problem(cells, chosen.lr, chosen.batch, centre)
    full = _full(problem, prior)
    progress(0.1)
    count = chosen.draws
    weights = _weights(cells, count, rng)
    # Draws differ in their priors, too: else what only the prior tells would seem certain.
    spread = prior.deviation * np.append(np.ones(problem.design.ends[2]), np.full(SHAPE, SHAPE_SPREAD))
    means = prior.mean + spread * rng.standard_normal((count, len(prior.mean)))
    draws, minima = np.empty((count, len(prior.mean))), np.empty((count, len(cells)))
    together = max(1, _RUNS_AT_ONCE // len(cells.of))
    for begin in range(0, count, together):
        part = slice(begin, min(begin + together, count))
        size = part.stop - begin
        first = State(
            np.repeat(full.shared, size, 0), np.repeat(full.own, size, 0), np.repeat(full.noise, size)
        )
        drawn = problem.solve(first, prior, means[part], weights[part], _DRAW_STEPS, fit_noise=False)
        draws[part], minima[part] = drawn.shared, cells.lowest * (1 + drawn.own[..., 0])
        progress(0.1 + 0.85 * part.stop / count)
    moved, errors = problem.displaced(full)
    lr_end, batch_end, _ = problem.design.ends
    optima = np.stack(
        [
            problem.design.lr @ full.shared[0, :lr_end],
            problem.design.batch @ full.shared[0, lr_end:batch_end],
        ],
        1,
    )
    which, lowest, own_errors = estimators.optima_with_errors(cells, rng)
    coefficients = (problem.design.lr.shape[1], problem.design.batch.shape[1])
    # By the shared shape, and by surfaces of the cells' own: cells also differ in shape.
    scatter = [
        max(
            _scatter(moved[:, axis], errors[:, axis], coefficients[axis]),
            _scatter(lowest[:, axis] - optima[which, axis], own_errors[:, axis], coefficients[axis]),
        )
        for axis in (0, 1)
    ]
    losses = cells.lowest * (1 + full.own[0, :, 0])
    fits = _cells(cells, optima + moved, errors, losses)
    cell_weights = np.add.reduceat(weights, cells.start, axis=1) / cells.counts
    return _Fit(
        shared=full.shared[0],
        draws=draws,
        scatter=(scatter[0], scatter[1]),
        noise=float(full.noise[0]),
        cells=fits,
        minima=(minima, cell_weights),
    )


def _problem(cells: Cells, lr: str, batch: str, centre: tuple[float, float]) -> tuple[Problem, Prior]:
    at = np.log(cells.n), np.log(cells.d)
    design = Design(
        forms.features(lr, *at, centre),
        forms.features(batch, *at, centre),
        forms.features(forms.N_D, *at, centre)[:, 1:],
    )
    index, best, _ = estimators.pool(cells, np.ones(len(cells.of)))
    middle = np.array([np.median(best[index == cell], axis=0) for cell in range(len(cells))]).mean(0)
    mean = np.concatenate(
        [
            [middle[0], *(forms.LR_EXPONENTS[name] for name in forms.VARIABLES[lr])],
            [middle[1], *(forms.BATCH_EXPONENTS[name] for name in forms.VARIABLES[batch])],
            [0.0, 0.0],
            SLOPES,
            LOG_WEIGHTS,
        ]
    )
    deviation = np.concatenate(
        [
            [PLACE_DEVIATION, *[forms.EXPONENT_DEVIATION] * len(forms.VARIABLES[lr])],
            [PLACE_DEVIATION, *[forms.EXPONENT_DEVIATION] * len(forms.VARIABLES[batch])],
            [AMPLITUDE_DEVIATION] * 2,
            [SLOPE_DEVIATION] * len(SLOPES),
            [WEIGHT_DEVIATION] * len(LOG_WEIGHTS),
        ]
    )
    return Problem(cells, design), Prior(mean, deviation)


def _full(problem: Problem, prior: Prior) -> State:
    """The fit to all runs alike, from the best of several starts; one draw."""
    starts = np.repeat(prior.mean[None], len(_STARTS), 0)
    starts[:, -TERMS:] += np.array(_STARTS)[:, None]
    ones, means = (
        np.ones((len(_STARTS), len(problem.cells.of))),
        np.repeat(prior.mean[None], len(_STARTS), 0),
    )
    first = problem.solve(
        start(starts, len(problem.cells)), prior, means, ones, _FIRST_STEPS, fit_noise=True
    )
    best = int(np.argmin(first.objective))
    one = slice(best, best + 1)
    state = State(first.shared[one], first.own[one], first.noise[one])
    return problem.solve(state, prior, means[:1], ones[:1], _STEPS, fit_noise=True)


def _weights(cells: Cells, draws: int, rng: np.random.Generator) -> Array:
    """(draws, r) weights of the Bayesian bootstrap: of cells, times those of runs in them."""
    of_cells = rng.exponential(size=(draws, len(cells)))
    of_cells /= of_cells.mean(1, keepdims=True)
    of_runs = rng.gamma(1 / RUN_VARIANCE, RUN_VARIANCE, size=(draws, len(cells.of)))
    return np.asarray(of_cells[:, cells.of] * of_runs)


def _scatter(moved: Array, errors: Array, coefficients: int) -> float:
    """The standard deviation of cells beyond their errors, by moments (DerSimonian and Laird 1986)."""
    if len(moved) <= coefficients:
        return 0.0
    force = 1 / errors**2
    beyond = float((force * moved**2).sum()) - (len(moved) - coefficients)
    return float(np.sqrt(max(0.0, beyond) / (force.sum() - (force**2).sum() / force.sum())))


def _other(
    cells: Cells, chosen: Options, centre: tuple[float, float], rng: np.random.Generator, progress: Progress
) -> _Fit:
    """By an estimator without a surface; runs and cells are drawn for its uncertainty."""
    ones, counts = np.ones(len(cells.of)), cells.counts
    full = _lines(cells, chosen.estimator, chosen.lr, chosen.batch, centre, ones, np.ones(len(cells)))
    draws = np.empty((chosen.draws, len(full)))
    for k in range(chosen.draws):
        drawn = np.concatenate(
            [rng.multinomial(count, np.full(count, 1 / count)) for count in counts]
        ).astype(float)
        draws[k] = _lines(
            cells,
            chosen.estimator,
            chosen.lr,
            chosen.batch,
            centre,
            drawn,
            rng.exponential(size=len(cells)),
        )
        progress(0.1 + 0.85 * (k + 1) / chosen.draws)
    index, places, _ = estimators.BY_NAME[chosen.estimator](cells, ones)
    own = np.array([places[index == cell].mean(0) for cell in range(len(cells))])
    errors = np.full(own.shape, estimators.SCATTER)
    found = _cells(cells, own, errors, cells.lowest)
    return _Fit(shared=full, draws=draws, scatter=(0.0, 0.0), noise=0.0, cells=found, minima=None)


def _lines(
    cells: Cells,
    estimator: str,
    lr: str,
    batch: str,
    centre: tuple[float, float],
    weights: Array,
    cell_weights: Array,
) -> Array:
    """Coefficients of lr, then of batch."""
    points = estimators.BY_NAME[estimator](cells, weights)
    at = np.log(cells.n), np.log(cells.d)
    found = []
    for axis, form, exponents in ((0, lr, forms.LR_EXPONENTS), (1, batch, forms.BATCH_EXPONENTS)):
        names = forms.VARIABLES[form]
        mean = np.array([points[1][:, axis].mean(), *(exponents[name] for name in names)])
        deviation = np.array([PLACE_DEVIATION, *[forms.EXPONENT_DEVIATION] * len(names)])
        features = forms.features(form, *at, centre)
        found.append(estimators.lines(points, features, cell_weights, mean, deviation)[:, axis])
    return np.concatenate(found)


def _alternatives(cells: Cells, chosen: Options, centre: tuple[float, float]) -> tuple[Alternative, ...]:
    """The joint fit in all other forms, and the other estimators in the form chosen."""
    found, costs = [], {}
    for lr, batch in {(chosen.lr, chosen.batch): None, **dict.fromkeys(FORMS)}:
        state = _full(*_problem(cells, lr, batch, centre))
        costs[lr, batch] = float(state.objective[0])
        if (JOINT, lr, batch) != (chosen.estimator, chosen.lr, chosen.batch):
            found.append((JOINT, lr, batch, state.shared[0]))
    ones, cell_ones = np.ones(len(cells.of)), np.ones(len(cells))
    for name in estimators.BY_NAME:
        if name != chosen.estimator:
            shared = _lines(cells, name, chosen.lr, chosen.batch, centre, ones, cell_ones)
            found.append((name, chosen.lr, chosen.batch, shared))
    least = min(costs.values())
    alternatives = []
    for name, lr, batch, shared in found:
        first = 1 + len(forms.VARIABLES[lr])
        second = first + 1 + len(forms.VARIABLES[batch])
        alternatives.append(
            Alternative(
                name=f"{name}: lr({lr}), batch({batch})",
                lr_form=lr,
                batch_form=batch,
                lr=_plain(shared[:first]),
                batch=_plain(shared[first:second]),
                refuted=costs[lr, batch] > least + REFUTED,
            )
        )
    return tuple(alternatives)


def _cells(cells: Cells, own: Array, errors: Array, losses: Array) -> tuple[CellFit, ...]:
    found = []
    for cell in range(len(cells)):
        mine = np.flatnonzero(cells.of == cell)
        best = mine[np.argmin(cells.loss[mine])]
        edge = []
        for axis, (name, column) in enumerate((("lr", cells.lr), ("batch", cells.batch))):
            low, high = column[mine].min(), column[mine].max()
            # The place of an optimum that lies outside of its sweep is a guess: what is shown is the edge.
            if own[cell, axis] < low + EDGE * (high - low):
                edge.append(f"{name} low")
            elif own[cell, axis] > high - EDGE * (high - low):
                edge.append(f"{name} high")
        found.append(
            CellFit(
                n=float(cells.n[cell]),
                d=float(cells.d[cell]),
                runs=len(mine),
                best_lr=float(np.exp(cells.lr[best])),
                best_batch=float(np.exp(cells.batch[best])),
                best_loss=float(cells.loss[best]),
                loss=float(losses[cell]),
                lr=float(np.exp(own[cell, 0])),
                batch=float(np.exp(own[cell, 1])),
                lr_error=float(errors[cell, 0]),
                batch_error=float(errors[cell, 1]),
                edge=tuple(edge),
            )
        )
    return tuple(found)


def _plain(values: Array) -> tuple[float, ...]:
    return tuple(float(value) for value in values)


def left_out(law: OptimumLaw, runs: Runs) -> tuple[OptimumLaw, ...]:
    """For each cell of ``law``, the joint fit to ``runs``: the law of all other cells, without draws of
    its own.

    The fits begin at the law's own answer, all at once, which is quick; where the others tell the law it
    is the same as fitting them from the start.
    """
    cells = gather(runs)
    problem, prior = _problem(cells, law.lr_form, law.batch_form, law.centre)
    count = len(cells)
    weights = (cells.of != np.arange(count)[:, None]).astype(float)
    first = start(np.repeat(np.array([law.shared]), count, 0), count)
    means = np.repeat(prior.mean[None], count, 0)
    found = problem.solve(first, prior, means, weights, _STEPS, fit_noise=True)
    return tuple(replace(law, shared=_plain(shared)) for shared in found.shared)


FAMILY = Family(
    summary="The learning rate and batch that train a model of N parameters on D tokens best.",
    kind="optimum",
    fit=fitted,
    check=checked,
    load=OptimumLaw.from_json,
)
