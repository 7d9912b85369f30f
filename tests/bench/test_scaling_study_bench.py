"""The benchmark of scaling studies compares what costs the same, and judges by the planted truth."""

from __future__ import annotations

from collections import Counter

import pytest

from bench.scaling_study import BATCH, GRID_SIDE, LR, TARGET, Trainer, evenly, grid_within


def test_even_sweeps_have_the_runs_they_were_asked_for() -> None:
    cells = {(1e7, 2e8): 3, (4e7, 8e8): 5}
    runs = evenly(cells, seed=1)
    assert Counter((n, d) for n, d, _, _ in runs) == cells
    assert all(LR[0] <= lr <= LR[1] and BATCH[0] <= batch <= BATCH[1] for _, _, lr, batch in runs)


def test_a_grid_reaches_as_far_as_it_is_paid_for() -> None:
    cells = grid_within(1e19)
    assert len(cells) == GRID_SIDE**2
    assert 0.7e19 < sum(6 * n * d for n, d in cells) <= 1e19
    with pytest.raises(ValueError, match="pay for no grid"):
        grid_within(1e10)


def test_plenty_of_runs_come_near_the_truth() -> None:
    trainer = Trainer(0)
    assert trainer.loss(1e7, 2e8, 1e-3, 1e5) == trainer.loss(1e7, 2e8, 1e-3, 1e5)
    cells = [(n, d) for n in (3e7, 1e8, 1e9) for d in (1e9, 5e9, 2e10)]
    found = trainer.judge(evenly(dict.fromkeys(cells, 20), 0), 0)
    assert TARGET in cells
    assert max(map(abs, found.error)) < 0.3
    assert found.excess < 0.001
    assert (found.runs, found.cells) == (180, 9)
