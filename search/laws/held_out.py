"""How well a law of the optimum foresees cells that it has not seen.

Each cell in turn is left out, the law fitted to the others, and its answer read off the shape of the whole fit,
laid round the left-out cell's own optimum. The published laws and rules are read off in the same way.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from search.errors import SearchError
from search.laws import published
from search.laws.base import Progress, Runs
from search.laws.cells import SAME, gather
from search.laws.optimum import fitted
from search.laws.optimum_law import CellFit, OptimumLaw

FEWEST, MOST = 4, 40
"""Cells: with fewer than three left there is no law to speak of; with more it takes too long."""
OURS = "ours"
_DRAWS = 20


@dataclass(frozen=True, slots=True)
class HeldOut:
    """What following a law would have cost in a cell, as shares of its least loss, by the law's name."""

    n: float
    d: float
    excess: Mapping[str, float]


def held_out(
    law: OptimumLaw, runs: Runs, options: Mapping[str, Any], seed: int, progress: Progress
) -> tuple[HeldOut, ...]:
    """One entry for each cell of ``law``, the fit of all ``runs``; none where there are too few or too many cells,
    or no surface to read off."""
    if not law.has_surface or not FEWEST <= len(law.cells) <= MOST:
        return ()
    found = []
    for done, cell in enumerate(law.cells):
        progress(done / len(law.cells))
        others = _without(runs, cell)
        excess: dict[str, float] = {}
        try:
            unseen = fitted(others, {**options, "draws": _DRAWS}, seed, lambda share: None)
        except SearchError:  # the others carry no law
            continue
        answer = unseen.predict(cell.n, cell.d)
        excess[OURS] = _read_off(law, cell, answer.lr.value, answer.batch.value)
        for form in (*published.laws(cell.n, cell.d), *published.rules(gather(others), cell.n, cell.d)):
            excess[form.name] = _read_off(law, cell, form.lr, form.batch)
        found.append(HeldOut(cell.n, cell.d, excess))
    progress(1.0)
    return tuple(found)


def _read_off(law: OptimumLaw, cell: CellFit, lr: float, batch: float) -> float:
    centre = law.predict(cell.n, cell.d)
    rate, size = centre.lr.value * lr / cell.lr, centre.batch.value * batch / cell.batch
    return float(law.surface(cell.n, cell.d, np.array(rate), np.array(size)))


def _without(runs: Runs, cell: CellFit) -> Runs:
    kept = (np.abs(np.log(runs.n / cell.n)) > 2 * SAME) | (np.abs(np.log(runs.d / cell.d)) > 2 * SAME)
    return Runs(n=runs.n[kept], d=runs.d[kept], lr=runs.lr[kept], batch=runs.batch[kept], loss=runs.loss[kept])
