"""The loss as a function of model size and data: ``L = E + A / N^alpha + B / D^beta``.

Hoffmann et al. 2022 ("Training compute-optimal large language models"), approach 3, fitted as Besiroglu et
al. 2024 ("Chinchilla scaling: a replication attempt") do: to convergence, on the sum over the runs. At a
compute ``C = 6 N D`` the law is lowest at ``N* = G (C / 6)^a`` and ``D* = (C / 6)^b / G``, with
``a = beta / (alpha + beta)``, ``b = 1 - a`` and ``G = (alpha A / (beta B))^(1 / (alpha + beta))``.

Where runs of one (N, D) differ in learning rate or batch, the lowest loss of the cell counts: the law is of
tuned models.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Self

import numpy as np

from search.errors import Mistake, SearchError, did_you_mean, pointer
from search.laws import cautions as shared
from search.laws.base import Array, Caution, Family, Interval, LossForm, LossPrediction, Progress, Runs
from search.laws.loss_cautions import LEAST_EXPONENT, of_fit
from search.laws.posynomial import Problem, bootstrap, interval, start_from
from search.laws.robustness import robust_deviation, without_worst

PARAMETERS = ("E", "A", "alpha", "B", "beta")
FEWEST_CELLS = len(PARAMETERS) + 1
DRAWS = 200
MOST_DRAWS = 5_000
HIGHEST_EXPONENT = 3.0
_START_EXPONENTS = (0.1, 0.2, 0.35, 0.5, 0.8, 1.2)


@dataclass(frozen=True, slots=True, eq=False)
class LossFit:
    """A fitted loss law."""

    theta: Array
    """(log E, log A', alpha, log B', beta), A' and B' at the runs' centre: A = A' exp(alpha centre[0])."""
    draws: Array
    """The same of the bootstrap, shape (draws, 5)."""
    centre: tuple[float, float]
    """Means of log N and log D."""
    cells_n: Array
    cells_d: Array
    """The distinct (N, D)."""
    lowest: float
    """The lowest loss that was fitted."""
    huber: float
    """The objective, summed over the runs."""
    spread: float
    """Robust standard deviation of the residuals in log loss."""
    counts: Mapping[str, int]
    """``runs`` fitted, ``cells``, ``not_best`` (left out: their cell has a lower loss), ``diverged``."""
    cautions: tuple[Caution, ...]
    forms: Mapping[str, Array]
    """The theta of other defensible forms and estimators, by their names."""
    family: str = "loss"

    def predict(self, n: float, d: float) -> LossPrediction:
        """The law's loss at N and D, and the N and D that are best for the same compute.

        These are None if the loss does not fall with N or with D.

        The interval is of the law, not of a single run, whose noise (``spread``) comes on top.
        Raises SearchError if a target is not above 0.
        """
        check_target(n=n, d=d)
        falls = min(self.theta[2], self.theta[4]) >= LEAST_EXPONENT
        best_n, best_d = self.compute_optimal(6.0 * n * d) if falls else (None, None)
        return LossPrediction(
            n=n,
            d=d,
            share=None,
            loss=self._interval(float(self.loss(n, d)[0]), self.loss(n, d, self.draws)),
            best_n=best_n,
            best_d=best_d,
            forms=tuple(
                LossForm(name, float(self.loss(n, d, theta)[0])) for name, theta in self.forms.items()
            ),
            cautions=(*self.cautions, *shared.of_target(self.cells_n, self.cells_d, n, d)),
        )

    def compute_optimal(self, flops: float) -> tuple[Interval, Interval]:
        """The N and D of the lowest loss at so much compute, 6 N D."""
        value = _optimal_n(self.theta[None], self.centre, flops)
        draws = _optimal_n(self.draws, self.centre, flops)
        return (
            self._interval(float(value[0]), draws),
            self._interval(flops / 6 / float(value[0]), flops / 6 / draws),
        )

    def loss(self, n: float, d: float, theta: Array | None = None) -> Array:
        """The law's loss at N and D: of the fit, shape (1,), or of rows of parameters, shape (rows,)."""
        e, a, alpha, b, beta = np.atleast_2d(self.theta if theta is None else theta).T
        u, v = np.log(n) - self.centre[0], np.log(d) - self.centre[1]
        return np.asarray(np.exp(e) + np.exp(a - alpha * u) + np.exp(b - beta * v))

    def parameters(self) -> dict[str, Interval]:
        """E, A, alpha, B, beta, and ``a``: the exponent of C in the best N."""
        own, drawn = _named(self.theta[None], self.centre), _named(self.draws, self.centre)
        found = {
            name: self._interval(float(own[name][0]), drawn[name], log=name in ("E", "A", "B"))
            for name in own
        }
        highest = {"E": self.lowest, "alpha": HIGHEST_EXPONENT, "beta": HIGHEST_EXPONENT, "a": 1.0}
        return {
            name: Interval(max(i.low, 0.0), i.value, min(i.high, highest.get(name, np.inf)))
            for name, i in found.items()
        }

    def summary(self) -> dict[str, Any]:
        """Parameters with intervals, the objective, the spread of the residuals, counts."""
        return {
            "formula": "L = E + A / N^alpha + B / D^beta",
            "parameters": {name: asdict(value) for name, value in self.parameters().items()},
            "huber": self.huber,
            "spread": self.spread,
            "counts": dict(self.counts),
            "draws": len(self.draws),
        }

    def to_json(self) -> dict[str, Any]:
        return {
            "family": self.family,
            "theta": self.theta.tolist(),
            "draws": self.draws.tolist(),
            "centre": list(self.centre),
            "cells_n": self.cells_n.tolist(),
            "cells_d": self.cells_d.tolist(),
            "lowest": self.lowest,
            "huber": self.huber,
            "spread": self.spread,
            "counts": dict(self.counts),
            "cautions": [asdict(caution) for caution in self.cautions],
            "forms": {name: theta.tolist() for name, theta in self.forms.items()},
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        return cls(
            theta=np.array(data["theta"]),
            draws=np.array(data["draws"]).reshape(-1, len(PARAMETERS)),
            centre=(data["centre"][0], data["centre"][1]),
            cells_n=np.array(data["cells_n"]),
            cells_d=np.array(data["cells_d"]),
            lowest=data["lowest"],
            huber=data["huber"],
            spread=data["spread"],
            counts=dict(data["counts"]),
            cautions=tuple(Caution(**caution) for caution in data["cautions"]),
            forms={name: np.array(theta) for name, theta in data["forms"].items()},
        )

    def _interval(self, value: float, draws: Array, *, log: bool = True) -> Interval:
        return interval(value, draws, self.counts["cells"], len(PARAMETERS), log=log)


def fit_loss(runs: Runs, options: Mapping[str, Any], seed: int, progress: Progress) -> LossFit:
    """Fit the law. Options: ``draws`` of the bootstrap (200).

    The bootstrap is over the cells (N, D). Raises SearchError for options it does not know, fewer than
    six cells, or a single N or D.
    """
    draws = checked_draws(options)
    best = lowest_of_cells(runs)
    cells, groups = np.unique(np.column_stack([best.n, best.d]), axis=0, return_inverse=True)
    wrong = []
    if len(cells) < FEWEST_CELLS:
        wrong.append(
            Mistake(
                "/runs",
                f"there are {len(cells)} cells (N, D); the law has five parameters",
                f"it takes at least {FEWEST_CELLS}",
            )
        )
    wrong += [
        Mistake(
            "/runs", f"all runs have one {name}", f"the exponent of {name} takes at least two, better four"
        )
        for name, values in (("N", best.n), ("D", best.d))
        if len(np.unique(values)) < 2
    ]
    if wrong:
        raise SearchError(wrong)
    u, v = np.log(best.n), np.log(best.d)
    centre = (float(u.mean()), float(v.mean()))
    u, v = u - centre[0], v - centre[1]
    problem = cells_problem(u, v, np.log(best.loss))
    theta = problem.fit(cells_starts(u, v, best.loss))
    _, drawn = bootstrap([(problem, theta)], groups, draws, seed, progress)
    residuals = problem.log_y - problem.log_values(theta)[0]
    fitted = LossFit(
        theta=theta,
        draws=drawn,
        centre=centre,
        cells_n=cells[:, 0].copy(),
        cells_d=cells[:, 1].copy(),
        lowest=float(best.loss.min()),
        huber=problem.huber(theta),
        spread=robust_deviation(residuals),
        counts={
            "runs": len(best),
            "cells": len(cells),
            "not_best": len(runs) - len(best),
            "diverged": len(runs.diverged.get("n", ())),
        },
        cautions=shared.of_runs(runs),
        forms=_forms(problem, theta),
    )
    found = of_fit(fitted.parameters(), problem, theta, (u, v), len(cells), fitted.lowest)
    return replace(fitted, cautions=(*fitted.cautions, *found))


def checked_draws(options: Mapping[str, Any]) -> int:
    """The number of bootstrap draws. Raises SearchError for it, and for any other option."""
    wrong = [
        Mistake(pointer("options", name), f"there is no option {name!r}", did_you_mean(name, ["draws"]))
        for name in options
        if name != "draws"
    ]
    draws = options.get("draws", DRAWS)
    if isinstance(draws, bool) or not isinstance(draws, int) or not 20 <= draws <= MOST_DRAWS:
        wrong.append(Mistake("/options/draws", f"is {draws!r}", f"a whole number, 20 to {MOST_DRAWS}"))
    if wrong:
        raise SearchError(wrong)
    return int(draws)


def check_target(**values: float) -> None:
    """Raises SearchError for a target that is not above 0."""
    wrong = [
        Mistake(f"/target/{name}", f"is {value:g}", "it must be above 0")
        for name, value in values.items()
        if not 0 < value < np.inf
    ]
    if wrong:
        raise SearchError(wrong)


def lowest_of_cells(runs: Runs) -> Runs:
    """Of each cell (N, D, share) whose runs differ in learning rate or batch, the lowest; repeats stay."""
    keys = [runs.n, runs.d] + ([] if runs.share is None else [runs.share])
    _, cells = np.unique(np.column_stack(keys), axis=0, return_inverse=True)
    settings = np.nan_to_num(np.column_stack([runs.lr, runs.batch]))
    keep = np.ones(len(runs), dtype=bool)
    for cell in range(int(cells.max()) + 1):
        rows = np.flatnonzero(cells == cell)
        if len(np.unique(settings[rows], axis=0)) > 1:
            keep[rows] = False
            keep[rows[np.argmin(runs.loss[rows])]] = True
    return Runs(
        n=runs.n[keep],
        d=runs.d[keep],
        lr=runs.lr[keep],
        batch=runs.batch[keep],
        loss=runs.loss[keep],
        share=None if runs.share is None else runs.share[keep],
    )


def cells_problem(u: Array, v: Array, log_loss: Array) -> Problem:
    """The law as a posynomial, at centred log N, log D and log loss, (m,) each."""
    one, zero = np.ones_like(u), np.zeros_like(u)
    lowest = float(log_loss.min())
    coefficient = (lowest - 7.0, float(log_loss.max()) + 3.0)
    exponent = (0.0, HIGHEST_EXPONENT)
    return Problem(
        terms=np.stack(
            [
                np.column_stack([one, zero, zero, zero, zero]),
                np.column_stack([zero, one, -u, zero, zero]),
                np.column_stack([zero, zero, zero, one, -v]),
            ]
        ),
        log_y=log_loss,
        bounds=[(lowest - 7.0, lowest), coefficient, exponent, coefficient, exponent],
    )


def cells_starts(u: Array, v: Array, loss: Array) -> list[Array]:
    """Thetas of a grid of exponents, with the coefficients that are best there."""
    found = []
    for alpha in _START_EXPONENTS:
        for beta in _START_EXPONENTS:
            e, a, b = np.log(
                start_from(np.stack([np.ones_like(u), np.exp(-alpha * u), np.exp(-beta * v)]) / loss)
            )
            found.append(np.array([e, a, alpha, b, beta]))
    return found


def _forms(problem: Problem, theta: Array) -> dict[str, Array]:
    """Least squares of log loss; one exponent for N and D; the fit without the runs that fit worst."""
    ones = np.ones(len(problem.log_y))
    squares = replace(problem, delta=np.inf)
    # log E, log A, the exponent, log B: theta with its last entry the same as its third.
    tie = np.eye(len(theta))[:, :4]
    tie[4, 2] = 1.0
    tied = replace(problem, terms=problem.terms @ tie, bounds=problem.bounds[:4])
    start = theta[:4].copy()
    start[2] = (theta[2] + theta[4]) / 2
    found = {
        "least squares": squares.polish(theta, ones)[0],
        "one exponent for N and D": tie @ tied.polish(start, ones)[0],
    }
    count, without, _ = without_worst(problem, theta)
    return found | {"without the worst 2 %": without} if count else found


def _named(theta: Array, centre: tuple[float, float]) -> dict[str, Array]:
    e, a, alpha, b, beta = theta.T
    return {
        "E": np.exp(e),
        "A": np.exp(a + alpha * centre[0]),
        "alpha": alpha,
        "B": np.exp(b + beta * centre[1]),
        "beta": beta,
        "a": beta / np.maximum(alpha + beta, 1e-12),
    }


def _optimal_n(theta: Array, centre: tuple[float, float], flops: float) -> Array:
    _, a, alpha, b, beta = theta.T
    # An exponent of 0 has no best N.
    alpha, beta = np.maximum(alpha, LEAST_EXPONENT), np.maximum(beta, LEAST_EXPONENT)
    log_g = (np.log(alpha / beta) + a + alpha * centre[0] - b - beta * centre[1]) / (alpha + beta)
    return np.asarray(np.exp(np.clip(log_g + beta / (alpha + beta) * np.log(flops / 6.0), -300, 300)))


FAMILY = Family(
    summary="The loss of a model of N parameters after D tokens, and the best N and D for a compute.",
    kind="loss",
    fit=fit_loss,
    check=checked_draws,
    load=LossFit.from_json,
)
