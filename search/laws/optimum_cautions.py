"""Cautions about a law of the optimum, each with its threshold (docs/LAWS.md)."""

from __future__ import annotations

import numpy as np
from scipy.stats import f as fisher

from search.laws import forms
from search.laws.base import Array, Caution
from search.laws.cells import Cells
from search.laws.optimum_law import CellFit, OptimumLaw

FEWEST_RUNS = 6
"""A cell with fewer runs tells little of its own optimum."""
EDGES = 1 / 3
"""Share of the cells with their optimum on the edge of their grid, above which the law is in doubt
altogether."""
FLAT = 1e-4
"""Highest over lowest loss of a cell, less one, in the median; below, all runs are alike."""
INDEPENDENT = 0.15
"""log N and log D are told apart if the smaller axis of the cells' spread is at least this (natural
log)."""
PRIOR = 0.3
"""An exponent whose uncertainty is more than this share of its prior's was hardly told by the runs."""

BEND_P = 0.01
"""A bend is flagged if its chance under a straight law is lower, for each of lr and batch over N and D,"""
BEND_CHANGE = 0.1
"""and if the exponent changes by more than this between the smallest and the largest cells."""


def of_cells(cells: Cells, fits: tuple[CellFit, ...]) -> tuple[Caution, ...]:
    """Too few runs, optima on edges, sweeps over one variable only."""
    found = []
    few = cells.counts < FEWEST_RUNS
    if cells.left_out:
        message = f"{cells.left_out} runs were left out: they are in cells of fewer than 3 runs"
        found.append(Caution("runs-left-out", message))
    if few.any():
        message = f"{few.sum()} of {len(cells)} cells have fewer than {FEWEST_RUNS} runs; sweep them more"
        found.append(Caution("few-runs", message, grave=bool(few.mean() > 0.5)))
    edges = [cell for cell in fits if cell.edge]
    if edges:
        told = "; ".join(f"N={cell.n:.3g} D={cell.d:.3g}: {', '.join(cell.edge)}" for cell in edges[:4])
        message = (
            f"{len(edges)} of {len(fits)} cells are best on the edge of their grid ({told}): widen it there"
        )
        found.append(Caution("edge", message, grave=len(edges) > EDGES * len(fits)))
    spread = float(np.median(np.maximum.reduceat(cells.excess, cells.start)))
    if spread < FLAT:
        message = f"losses of a cell differ by {spread:.2g} of the lowest: no optimum can be told"
        found.append(Caution("flat", message, grave=True))
    for name, column in (("learning rate", cells.lr), ("batch", cells.batch)):
        low = np.minimum.reduceat(column, cells.start)
        high = np.maximum.reduceat(column, cells.start)
        if np.all(high - low < 0.01):
            message = f"no cell has more than one {name}: its optimum is not known, and nor are laws of it"
            found.append(Caution("one-value", message, grave=True))
    return tuple(found)


def of_exponents(law: OptimumLaw) -> tuple[Caution, ...]:
    """N and D that cannot be told apart, exponents that the runs hardly tell."""
    found = []
    n, d = np.log(np.array([[cell.n, cell.d] for cell in law.cells])).T
    centred = np.stack([n - n.mean(), d - d.mean()])
    least = float(np.linalg.svd(centred / np.sqrt(len(n)), compute_uv=False).min())
    if least < INDEPENDENT and forms.N_D in (law.lr_form, law.batch_form):
        message = (
            f"log N and log D vary together (spread {least:.2f} across their line, {INDEPENDENT} needed): "
            "exponents cannot be told apart, the law holds only on that line; add cells of another D / N"
        )
        found.append(Caution("exponents-unidentified", message, grave=True))
    for name, laws in (("lr", law.summary()["lr"]), ("batch", law.summary()["batch"])):
        for variable, interval in laws["exponents"].items():
            error = (interval["high"] - interval["low"]) / (2 * 1.645)
            if error > PRIOR * forms.EXPONENT_DEVIATION:
                message = (
                    f"the exponent of {variable} for {name} is {interval['value']:.2f}, but anything from "
                    f"{interval['low']:.2f} to {interval['high']:.2f} would do"
                )
                found.append(Caution("exponent-uncertain", message))
    return tuple(found)


def of_bends(fits: tuple[CellFit, ...]) -> tuple[Caution, ...]:
    """Optima of the cells that bend over log N or log D: a broken power law (Caballero et al. 2022)."""
    found = []
    for name, axis in (("learning rate", "lr"), ("batch", "batch")):
        # What lies on the edge of its grid is a guess, and would be taken for a bend.
        told = [cell for cell in fits if not any(edge.startswith(axis) for edge in cell.edge)]
        at = np.log(np.array([[cell.n, cell.d] for cell in told]).reshape(-1, 2))
        best = np.log([getattr(cell, axis) for cell in told])
        errors = np.array([getattr(cell, f"{axis}_error") for cell in told])
        for column, variable in enumerate("ND"):
            p, change = bend(at, best, errors, column)
            if p < BEND_P and abs(change) > BEND_CHANGE:
                found.append(
                    Caution(
                        "bent",
                        f"the best {name} bends over {variable}: its exponent changes by about "
                        f"{change:+.2f} between the smallest and the largest, which a true power law does "
                        f"with a chance of {p:.1g}; the law may break, do not carry it far",
                    )
                )
    return tuple(found)


def bend(at: Array, best: Array, errors: Array, column: int) -> tuple[float, float]:
    """Of log optima ``best`` (c,) at ``at`` (c, 2), their log N and log D: an F test of a square in one
    ``column`` of these beside a plane.

    Returns the chance of it under a plane, and by how much the exponent changes over the range of the
    column. ``errors`` (c,) weigh the cells; how large they are is told by the cells about the plane, since
    cells scatter beyond what their runs tell.
    """
    spare = len(at) - 4
    if spare < 2:
        return 1.0, 0.0
    centred = at - at.mean(axis=0)
    x = centred[:, column]
    plane = np.column_stack([np.ones(len(at)), centred])
    if np.linalg.matrix_rank(np.column_stack([plane, x * x]), tol=0.1) < 4:
        return 1.0, 0.0
    force = 1 / np.hypot(errors, np.median(errors))

    def fitted(columns: Array) -> tuple[Array, float]:
        found = np.linalg.lstsq(columns * force[:, None], best * force, rcond=None)[0]
        return np.asarray(found), float((((best - columns @ found) * force) ** 2).sum())

    _, straight = fitted(plane)
    coefficients, bent = fitted(np.column_stack([plane, x * x]))
    ratio = (straight - bent) / max(bent / spare, 1e-300)
    return float(fisher.sf(ratio, 1, spare)), float(2 * coefficients[3] * np.ptp(x))
