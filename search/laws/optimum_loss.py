"""The loss at the optimum: the law of the loss, fitted to the lowest losses of the cells.

The joint fit says how low each cell's surface is, whatever was run there, and each draw of its bootstrap
says it anew. To these the law of :mod:`search.laws.loss` is fitted, in each draw with the draw's own
weights of the cells, so that its intervals hold what runs, cells and the surface leave open.
"""

from __future__ import annotations

import numpy as np

from search.laws.base import Array, Caution
from search.laws.loss import FEWEST_CELLS, LossFit, cells_problem, cells_starts
from search.laws.robustness import robust_deviation

UNKNOWN = "loss-unknown"


def missing(n: Array, d: Array) -> Caution | None:
    """Why cells of ``n`` and ``d`` (c,) carry no law of the loss; None if they do."""
    if len(n) < FEWEST_CELLS:
        why = f"there are {len(n)} cells, and its law takes {FEWEST_CELLS}"
    elif min(len(np.unique(np.round(np.log(x), 2))) for x in (n, d)) < 2:
        why = "all cells have one N, or one D"
    else:
        return None
    return Caution(UNKNOWN, f"the loss at the optimum is not foreseen: {why}")


def fit_minima(n: Array, d: Array, lowest: Array, drawn: Array, weights: Array) -> LossFit:
    """The law of the cells' lowest losses.

    ``n``, ``d``, ``lowest``: (c,) of the cells, for which :func:`missing` says nothing; ``drawn`` and
    ``weights``: (k, c) the lowest losses and the cells' weights in each draw.
    """
    u, v = np.log(n), np.log(d)
    centre = (float(u.mean()), float(v.mean()))
    u, v = u - centre[0], v - centre[1]
    problem = cells_problem(u, v, np.log(lowest))
    theta = problem.fit(cells_starts(u, v, lowest))
    draws = np.array(
        [
            cells_problem(u, v, np.log(losses)).polish(theta, own / own.mean())[0]
            for losses, own in zip(drawn, weights, strict=True)
        ]
    )
    residuals = problem.log_y - problem.log_values(theta)[0]
    return LossFit(
        theta=theta,
        draws=draws,
        centre=centre,
        cells_n=n,
        cells_d=d,
        lowest=float(lowest.min()),
        huber=problem.huber(theta),
        spread=robust_deviation(residuals),
        counts={"runs": len(n), "cells": len(n), "not_best": 0, "diverged": 0},
        cautions=(),
        forms={},
    )
