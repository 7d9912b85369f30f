"""How well a law of the optimum foresees cells that it has not seen.

Each cell in turn is left out, the law fitted to the others, and its answer read off the shape of the whole
fit, laid round the left-out cell's own optimum. The published laws and rules are read off in the same way.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from search.laws import published
from search.laws.base import Form, Runs
from search.laws.cells import Cells, gather
from search.laws.optimum import left_out
from search.laws.optimum_law import CellFit, OptimumLaw

FEWEST, MOST = 4, 60
"""Cells: with fewer than three left there is no law to speak of; with more it takes too long."""
OURS = "ours"


@dataclass(frozen=True, slots=True)
class HeldOut:
    """What following a law would have cost in a cell, as shares of its least loss, by the law's name."""

    n: float
    d: float
    excess: Mapping[str, float]


def held_out(law: OptimumLaw, runs: Runs) -> tuple[HeldOut, ...]:
    """One entry for each cell of ``law``, the fit of all ``runs``; none where there are too few or too many
    cells, or no surface to read off."""
    if not law.has_surface or not FEWEST <= len(law.cells) <= MOST:
        return ()
    cells = gather(runs)
    found = []
    for at, (cell, unseen) in enumerate(zip(law.cells, left_out(law, runs), strict=True)):
        lr, batch = unseen.optimum(cell.n, cell.d)
        others = (Form(OURS, lr.value, batch.value), *published.laws(cell.n, cell.d))
        rules = published.rules(without(cells, at), cell.n, cell.d)
        excess = {form.name: _read_off(law, cell, form) for form in (*others, *rules)}
        found.append(HeldOut(cell.n, cell.d, excess))
    return tuple(found)


def _read_off(law: OptimumLaw, cell: CellFit, form: Form) -> float:
    lr, batch = law.optimum(cell.n, cell.d)
    rate, size = lr.value * form.lr / cell.lr, batch.value * form.batch / cell.batch
    return float(law.surface(cell.n, cell.d, np.array(rate), np.array(size)))


def without(cells: Cells, cell: int) -> Cells:
    """All cells but one."""
    kept, runs = np.arange(len(cells)) != cell, cells.of != cell
    of = cells.of[runs] - (cells.of[runs] > cell)
    return Cells(
        n=cells.n[kept],
        d=cells.d[kept],
        of=of,
        start=np.flatnonzero(np.diff(of, prepend=-1)),
        lr=cells.lr[runs],
        batch=cells.batch[runs],
        loss=cells.loss[runs],
        lowest=cells.lowest[kept],
    )
