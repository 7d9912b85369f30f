"""Runs sorted into cells: all runs of one model size N on one amount of data D.

A cell is a sweep over learning rate and batch. Sizes that differ by less than 1 % count as one: trainers
round tokens to whole batches.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from search.errors import Mistake, SearchError
from search.laws.base import Array, Runs

Index = NDArray[np.intp]

SAME = 0.01
"""Values of N (or D) closer than this, as a share, are one value."""
FEWEST_RUNS = 3
"""A cell with fewer finished runs says nothing of its own optimum; it is left out, with a caution."""


@dataclass(frozen=True, slots=True, eq=False)
class Cells:
    """Finished runs in logarithms, sorted by cell; r runs, c cells."""

    n: Array
    """(c,) parameters."""
    d: Array
    """(c,) tokens."""
    of: Index
    """(r,) the cell of each run, ascending."""
    start: Index
    """(c,) the first run of each cell."""
    lr: Array
    """(r,) log learning rate."""
    batch: Array
    """(r,) log batch in tokens."""
    loss: Array
    """(r,) loss."""
    lowest: Array
    """(c,) the lowest loss of each cell."""
    left_out: int = 0
    """Runs in cells with too few of them."""

    @property
    def excess(self) -> Array:
        """(r,) each loss over the lowest of its cell, as a share."""
        return self.loss / self.lowest[self.of] - 1.0

    @property
    def counts(self) -> Index:
        """(c,) runs in each cell."""
        return np.diff(np.append(self.start, len(self.of)))

    def __len__(self) -> int:
        return len(self.n)


def gather(runs: Runs, fewest_cells: int = 2) -> Cells:
    """The cells of ``runs``.

    Raises :class:`~search.errors.SearchError` with all mistakes found: no finished runs, values that are
    not positive, no learning rates or batches, batches that cannot be tokens, fewer than ``fewest_cells``
    cells.
    """
    check(runs)
    sizes, amounts = _values(np.log(runs.n)), _values(np.log(runs.d))
    pairs, of = np.unique(np.stack([sizes, amounts]), axis=1, return_inverse=True)
    of = np.asarray(of).reshape(-1)
    counts = np.bincount(of, minlength=pairs.shape[1])
    kept = counts >= FEWEST_RUNS
    if kept.sum() < fewest_cells:
        found = ", ".join(
            f"N={runs.n[of == cell][0]:.3g} D={runs.d[of == cell][0]:.3g} ({counts[cell]} runs)"
            for cell in range(min(len(counts), 5))
        )
        message = (
            f"a law of the optimum needs at least {fewest_cells} cells (pairs of N and D) with "
            f"{FEWEST_RUNS} finished runs each; there are {kept.sum()} among {len(counts)}: {found}"
        )
        raise SearchError(
            [Mistake("/runs", message, "add runs of another model size or another amount of data")]
        )
    inside = np.flatnonzero(kept[of])
    order = inside[np.argsort(of[inside], kind="stable")]
    of = np.unique(of[order], return_inverse=True)[1]
    start = np.flatnonzero(np.diff(of, prepend=-1))
    loss = runs.loss[order]
    return Cells(
        n=runs.n[order][start],
        d=runs.d[order][start],
        of=of,
        start=start,
        lr=np.log(runs.lr[order]),
        batch=np.log(runs.batch[order]),
        loss=loss,
        lowest=np.minimum.reduceat(loss, start),
        left_out=len(runs) - len(order),
    )


def check(runs: Runs) -> None:
    """Raise :class:`~search.errors.SearchError` with every reason why ``runs`` cannot carry a law of
    the optimum."""
    diverged = max((len(column) for column in runs.diverged.values()), default=0)
    if not len(runs):
        what = f"all {diverged} runs diverged" if diverged else "there are no finished runs"
        raise SearchError([Mistake("/runs", f"{what}: there is nothing to fit")])
    mistakes = []
    for name, column in (("n", runs.n), ("d", runs.d), ("loss", runs.loss)):
        mistakes += _positive(name, column)
    for name, column in (("lr", runs.lr), ("batch", runs.batch)):
        if np.all(np.isnan(column)):
            mistakes.append(
                Mistake(f"/runs/{name}", "a law of the optimum needs this column, and it is missing")
            )
        else:
            mistakes += _positive(name, column)
    if not mistakes and np.any(runs.batch > runs.d):
        row = int(np.argmax(runs.batch > runs.d))
        batch, tokens = runs.batch[row], runs.d[row]
        message = f"row {row}: a batch of {batch:.4g} tokens is more than the whole training ({tokens:.4g})"
        mistakes.append(Mistake("/runs/batch", message, "are the columns' units right? Both are tokens"))
    if mistakes:
        raise SearchError(mistakes)


def _positive(name: str, column: Array) -> list[Mistake]:
    wrong = ~(np.isfinite(column) & (column > 0))
    if not wrong.any():
        return []
    row = int(np.argmax(wrong))
    more = f" (and {wrong.sum() - 1} more)" if wrong.sum() > 1 else ""
    return [Mistake(f"/runs/{name}", f"row {row}: {column[row]:g} is not a positive number{more}")]


def _values(logarithms: Array) -> Index:
    """(r,) the number of the distinct value that each entry has; neighbours within SAME are one."""
    values, inverse = np.unique(logarithms, return_inverse=True)
    number = np.concatenate([[0], np.cumsum(np.diff(values) > SAME)])
    return np.asarray(number[inverse], dtype=np.intp)
