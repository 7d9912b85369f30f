"""What a law would have cost in cells that it has not seen."""

from __future__ import annotations

import numpy as np
import pytest

from search.laws.base import Runs
from search.laws.cells import gather
from search.laws.held_out import FEWEST, OURS, held_out, without
from search.laws.optimum import fitted


def planted(sizes: int, amounts: int, seed: int = 0) -> Runs:
    """Ten runs in each cell round lr = 1.6 N^-0.55 D^0.14 and batch = 0.9 N^0.08 D^0.5."""
    rng = np.random.default_rng(seed)
    n = np.repeat(60e6 * 3.0 ** np.arange(sizes), amounts * 10)
    d = np.repeat(np.tile(10 * 3.0 ** np.arange(amounts), sizes), 10) * n
    x, y = rng.normal(0, 0.8, (2, len(n)))
    excess = 0.004 * (np.exp(0.9 * x - 0.5 * y) - 1 - 0.9 * x + 0.5 * y)
    excess += 0.003 * (np.exp(-0.9 * x) - 1 + 0.9 * x) + 0.004 * (np.exp(y) - 1 - y)
    loss = 3 * (1 + excess) * (1 + rng.normal(0, 3e-4, len(n)))
    return Runs(
        n=n,
        d=d,
        lr=1.6 * n**-0.55 * d**0.14 * np.exp(x),
        batch=0.9 * n**0.08 * d**0.5 * np.exp(y),
        loss=loss,
    )


def test_a_planted_law_is_foreseen_in_each_cell_and_the_rules_of_thumb_are_not() -> None:
    runs = planted(3, 3)
    law = fitted(runs, {"draws": 20}, 0, lambda share: None)
    found = held_out(law, runs)
    assert [(cell.n, cell.d) for cell in found] == [(cell.n, cell.d) for cell in law.cells]
    means = {name: np.mean([cell.excess[name] for cell in found]) for name in found[0].excess}
    assert means[OURS] < 5e-4
    assert all(means[name] > 3 * means[OURS] for name in ("step-law", "deepseek", "linear"))
    # As if the cell had never been there.
    cell = found[4]
    others = (runs.n != cell.n) | (np.abs(runs.d / cell.d - 1) > 0.01)
    parts = {name: getattr(runs, name)[others] for name in ("n", "d", "lr", "batch", "loss")}
    anew = fitted(Runs(**parts), {"draws": 20}, 0, lambda share: None)
    lr, batch = anew.optimum(cell.n, cell.d)
    middle_lr, middle_batch = law.optimum(cell.n, cell.d)
    own = law.cells[4]
    at = (
        np.array(middle_lr.value * lr.value / own.lr),
        np.array(middle_batch.value * batch.value / own.batch),
    )
    assert float(law.surface(cell.n, cell.d, *at)) == pytest.approx(cell.excess[OURS], abs=5e-5)


def test_too_few_cells_or_no_surface_tell_nothing() -> None:
    runs = planted(FEWEST - 1, 1)
    assert held_out(fitted(runs, {"draws": 20}, 0, lambda share: None), runs) == ()
    runs = planted(3, 3)
    law = fitted(runs, {"draws": 20, "estimator": "argmin"}, 0, lambda share: None)
    assert held_out(law, runs) == ()


def test_cells_without_one() -> None:
    cells = gather(planted(2, 2))
    fewer = without(cells, 1)
    assert len(fewer) == 3
    assert list(fewer.n) == [cells.n[0], cells.n[2], cells.n[3]]
    assert list(fewer.start) == [0, 10, 20]
    assert set(fewer.of) == {0, 1, 2}
    assert list(fewer.loss[10:20]) == list(cells.loss[20:30])
