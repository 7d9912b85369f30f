"""Published laws, in the units of this project."""

from __future__ import annotations

import numpy as np
import pytest

from bench.law_planted import Planted, sweep
from search.laws import published
from search.laws.cells import gather


def test_published_laws_say_what_their_papers_say() -> None:
    step, deepseek = published.laws(1e9, 1e11)
    assert (step.name, deepseek.name) == ("step-law", "deepseek")
    assert step.lr == pytest.approx(1.79 * 1e9**-0.713 * 1e11**0.307)
    assert step.batch == pytest.approx(0.58 * 1e11**0.571)
    assert deepseek.lr == pytest.approx(0.3118 * 6e20**-0.125)
    assert deepseek.batch == pytest.approx(0.2920 * 6e20**0.3271)


def test_rules_carry_the_best_run_of_the_nearest_cell() -> None:
    cells = gather(sweep(Planted(), np.random.default_rng(0), per_cell=12))
    n, d = float(cells.n[-1]), float(cells.d[-1])
    best = np.flatnonzero(cells.of == len(cells) - 1)
    best = best[np.argmin(cells.loss[best])]
    lr, batch = np.exp(cells.lr[best]), np.exp(cells.batch[best])
    nearest, root, linear = published.rules(cells, n, 16 * d)
    assert (nearest.lr, nearest.batch) == pytest.approx((lr, batch))
    assert (root.lr, root.batch) == pytest.approx((2 * lr, 4 * batch))
    assert (linear.lr, linear.batch) == pytest.approx((4 * lr, 4 * batch))
