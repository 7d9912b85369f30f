"""The referee of the benchmark of laws finds what was planted, and a quadratic does not."""

from __future__ import annotations

import numpy as np
import pytest

from bench.law_planted import Planted, sweep
from bench.law_referee import CHOSEN, SMOOTHERS, left_out_error, referee

CELL = (2e8, 1.2e10)


@pytest.mark.parametrize("noise", [0.0, 5e-4])
def test_the_referee_is_neutral_where_the_surface_is_lopsided(noise: float) -> None:
    planted = Planted(bend=0.6)
    runs = sweep(planted, np.random.default_rng(0), cells=[CELL], noise=noise)
    places, best = np.log(np.stack([runs.lr, runs.batch], 1)), np.log(planted.best(*CELL))
    judge = referee(places, runs.loss, SMOOTHERS[CHOSEN])
    quadratic = referee(places, runs.loss, SMOOTHERS["quadratic"])
    assert judge.best == pytest.approx(best, abs=0.1)
    assert judge.excess(best) < 1e-4
    assert quadratic.excess(best) > 2 * judge.excess(best)
    assert left_out_error(places, runs.loss, SMOOTHERS[CHOSEN]) < left_out_error(
        places, runs.loss, SMOOTHERS["quadratic"]
    )
    off = np.log([2, 1]) + best
    true = float(planted.excess(*CELL, np.exp(off[0]), np.exp(off[1])))
    assert judge.excess(off) == pytest.approx(true, rel=0.2)
